//! Names of relays and STUN servers, resolved without holding up the engine.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::map::RelayNode;
use super::node::Node;
use super::Courier;

/// An answer of the DNS is used again for this long.
const FRESH: Duration = Duration::from_secs(300);

/// What the DNS answered for a name; the error is a sentence.
pub type Answer = (String, Result<Vec<IpAddr>, String>);

/// Answers of the DNS.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<String, (Instant, Vec<IpAddr>)>,
}

impl Names {
    /// The addresses of a node that may be used; `None` when the DNS must be asked.
    pub fn of(&self, now: Instant, node: &RelayNode) -> Option<Vec<IpAddr>> {
        let written = node.addresses();
        let found = if written.is_empty() { self.find(now, &node.host_name)? } else { written };
        Some(found.into_iter().filter(|address| node.allows(*address)).collect())
    }

    /// The addresses of a host; `None` when the DNS must be asked.
    pub fn find(&self, now: Instant, host: &str) -> Option<Vec<IpAddr>> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Some(vec![address]);
        }
        let (at, found) = self.known.get(host)?;
        (now.saturating_duration_since(*at) <= FRESH).then(|| found.clone())
    }

    /// Go on with an old answer where the DNS gives none.
    pub fn reuse(&mut self, now: Instant, host: &str) -> Option<Vec<IpAddr>> {
        let (at, found) = self.known.get_mut(host)?;
        *at = now;
        Some(found.clone())
    }

    /// Remember what the DNS answered.
    pub fn learn(&mut self, now: Instant, host: String, addresses: Vec<IpAddr>) {
        self.known.insert(host, (now, addresses));
    }
}

/// Ask the DNS on a thread of its own, and bring the answers to the engine's.
pub fn resolve(
    courier: Courier,
    hosts: Vec<String>,
    then: impl FnOnce(&mut Node, Instant, Vec<Answer>) + Send + 'static,
) {
    let ask = move || {
        let found = hosts.into_iter().map(|host| {
            let addresses = (host.as_str(), 0).to_socket_addrs();
            let addresses = addresses.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>());
            (host, addresses.map_err(|error| error.to_string()))
        });
        let found: Vec<_> = found.collect();
        let _ = courier.send(Box::new(move |node, now| then(node, now, found)));
        // the engine may have closed
    };
    // Without a thread there is no answer; whoever waits for it has a deadline.
    let _ = std::thread::Builder::new().name("warren-dns".into()).spawn(ask);
}
