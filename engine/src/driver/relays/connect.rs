//! How a relay gets connected: names, proxies, addresses one after the other, and what happens when it ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use rustls::pki_types::ServerName;

use super::super::carrier::Secured;
use super::super::derp::{Cost, Ended, Hello, Link};
use super::super::dns::{resolve, Answer};
use super::super::map::RelayNode;
use super::super::node::{token, RELAY};
use super::super::proxy::{Handshake, Proxy, Scheme};
use super::super::random;
use super::super::stream::{Stream, Tunnel};
use super::comeback::Ending;
use super::{Former, Relays, Slot, Target, Unknown, FORMER, MUTE};

/// A relay that restarts may ask us to stay away for so long, and no longer.
const LONGEST_ASKED: Duration = Duration::from_secs(5);
/// So often WebSocket may fail before the plain upgrade is tried again.
const WEBSOCKET_FAILURES: u32 = 3;

impl Relays {
    /// Begin to connect to a region.
    pub(super) fn connect(&mut self, now: Instant, region: u16) {
        let Some(described) = self.map.regions.get(&region) else { return };
        let nodes: Vec<RelayNode> = described.relays().cloned().collect();
        let (mut targets, mut unknown) = (VecDeque::new(), Vec::new());
        let mut reason = format!("region {region} has no relay with an address that can be used");
        for node in nodes {
            match self.targets(now, &node) {
                Ok(found) => targets.extend(found),
                Err(Unknown::Name(host)) => unknown.push(host),
                Err(Unknown::Never(why)) => reason = why,
            }
        }
        let slot = self.slots.entry(region).or_default();
        (slot.retry_at, slot.targets, slot.cost) = (None, targets, Cost::Nothing);
        slot.trying_since.get_or_insert(now);
        if !slot.targets.is_empty() {
            self.next_target(now, region);
        } else if !unknown.is_empty() && !slot.resolving {
            slot.resolving = true;
            resolve(self.courier.clone(), unknown, move |node, now, found| {
                node.wire.relays.resolved(now, region, found);
            });
        } else if unknown.is_empty() {
            self.lost(now, region, Ended::because(reason));
        }
    }

    /// Where a node can be reached, through a proxy where there is one.
    pub fn targets(&self, now: Instant, node: &RelayNode) -> Result<Vec<Target>, Unknown> {
        let mut targets = self.addressed(now, node)?;
        targets.sort_by_key(|target| silent(&self.mute, now, target));
        Ok(targets)
    }

    fn addressed(&self, now: Instant, node: &RelayNode) -> Result<Vec<Target>, Unknown> {
        let port = node.relay_port();
        let target = |to, proxy| Target { node: node.clone(), to, proxy };
        match self.proxies.find(!node.force_http, &node.host_name, port).map_err(Unknown::Never)? {
            Some(proxy) => {
                let found = self.names.find(now, &proxy.host).ok_or_else(|| Unknown::Name(proxy.host.clone()))?;
                Ok(found.into_iter().map(|ip| target(SocketAddr::new(ip, proxy.port), Some(proxy.clone()))).collect())
            }
            None => {
                let found = self.names.of(now, node).ok_or_else(|| Unknown::Name(node.host_name.clone()))?;
                Ok(found.into_iter().map(|ip| target(SocketAddr::new(ip, port), None)).collect())
            }
        }
    }

    fn resolved(&mut self, now: Instant, region: u16, found: Vec<Answer>) {
        let (mut problem, mut any) = (String::new(), false);
        for (host, addresses) in found {
            match addresses {
                Ok(addresses) => {
                    any = true;
                    self.names.learn(now, host, addresses);
                }
                // Names seldom change; an old answer is better than none.
                Err(_) if self.names.reuse(now, &host).is_some() => any = true,
                Err(error) => problem = self.unresolved(&host, &error),
            }
        }
        let Some(slot) = self.slots.get_mut(&region) else { return };
        slot.resolving = false;
        if any {
            self.connect(now, region);
        } else {
            self.lost(now, region, Ended::because(problem));
        }
    }

    /// Say that a name is not known.
    pub fn unresolved(&self, host: &str, error: &str) -> String {
        let whose = if self.proxies.lead_by(host) { " of the proxy" } else { "" };
        format!("the name{whose} {host} cannot be resolved: {error}")
    }

    pub(super) fn next_target(&mut self, now: Instant, region: u16) {
        let Some(target) = self.slots.get_mut(&region).and_then(|slot| slot.targets.pop_front()) else {
            return;
        };
        match self.link_to(now, region, token(RELAY, usize::from(region)), &target) {
            Ok(link) => {
                let Some(slot) = self.slots.get_mut(&region) else { return };
                (slot.v6, slot.attempt_at) = (target.to.is_ipv6(), Some(now));
                (slot.link, slot.node) = (Some(link), Some(target.node));
            }
            Err(reason) => self.lost(now, region, Ended { cost: Cost::Nothing, ..Ended::because(reason) }),
        }
    }

    pub(super) fn link_to(&mut self, now: Instant, region: u16, token: Token, target: &Target) -> Result<Link, String> {
        let mut stream = self.stream_to(target)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(stream.socket(), token, interest).map_err(|error| error.to_string())?;
        let websocket = self.force_websockets || self.slots.get(&region).is_some_and(|slot| slot.websocket.is_some());
        let hello = Hello { host: target.node.host_header(), websocket, ..self.hello.clone() };
        Ok(Link::new(now, stream, hello, region == self.home))
    }

    /// Begin a connection to a node, with TLS as the map says. The error is a sentence.
    pub fn stream_to(&mut self, target: &Target) -> Result<Stream, String> {
        let node = &target.node;
        let tls = match node.force_http {
            true => None,
            false => Some(self.secured(node.tls_name(), node.insecure_for_tests)?),
        };
        let tunnel = target.proxy.as_ref().map(|proxy| self.tunnel(proxy, node)).transpose()?;
        Stream::connect(target.to, tunnel, tls).map_err(|error| match &target.proxy {
            Some(proxy) => format!("the proxy {} cannot be reached: {error}", proxy.name()),
            None => error.to_string(),
        })
    }

    /// The way to a node through a proxy; one that is reached by TLS must be trusted whatever the map says of relays.
    fn tunnel(&mut self, proxy: &Proxy, node: &RelayNode) -> Result<Tunnel, String> {
        let secured = match proxy.scheme {
            Scheme::Https => Some(self.secured(proxy.host.trim_matches(['[', ']']), false)?),
            Scheme::Http | Scheme::Socks => None,
        };
        Ok(Tunnel {
            proxy: proxy.name(),
            secured,
            handshake: Handshake::new(proxy, &node.host_name, node.relay_port())?,
        })
    }

    fn secured(&mut self, name: &str, insecure: bool) -> Result<Secured, String> {
        let server = ServerName::try_from(name.to_owned());
        let server = server.map_err(|_| format!("`{name}` cannot be the name in a certificate"))?;
        Ok((self.tls.config(insecure)?, server))
    }

    /// A connection ended or could not be made.
    pub(super) fn lost(&mut self, now: Instant, region: u16, ended: Ended) {
        let (home, kept) = (region == self.home, self.kept(region));
        let Some(slot) = self.slots.get_mut(&region) else { return };
        if slot.rival.is_some() && !slot.withdrawn {
            self.renew(now, region, &ended.reason);
            // It had its head start: another relay, if one is ready, need not wait for the attempt under way.
            self.slots.entry(region).and_modify(|slot| slot.slow = true);
            return;
        }
        let was_open = slot.open();
        slot.returning |= was_open;
        let was_websocket = slot.link.as_ref().is_some_and(Link::websocket);
        if let Some(mut link) = slot.link.take() {
            let _ = self.registry.deregister(link.stream().socket()); // closing does it as well
            self.dropped += link.dropped;
        }
        (slot.readable, slot.attempt_at) = (false, None);
        if was_open {
            self.whereabouts.disconnected(region);
        }
        if slot.withdrawn {
            self.forget_withdrawn(region);
            return;
        }
        slot.cost = slot.cost.max(ended.cost);
        if !was_open && slot.switch_transport(&ended, was_websocket) {
            self.connect(now, region);
            return;
        }
        if ended.cost == Cost::Refusal {
            // The relay's machine is there: a family that leads nowhere would not find more.
            slot.targets.retain(|target| !silent(&self.mute, now, target));
        }
        if !was_open && !slot.targets.is_empty() {
            self.next_target(now, region);
            return;
        }
        slot.failures = if was_open { 0 } else { slot.failures.saturating_add(1) };
        slot.failed_at = Some(now);
        let ending = match was_open {
            true => Ending::Lost,
            false if slot.cost < Cost::More => Ending::Refused,
            false => Ending::Failed,
        };
        let pause = slot.comeback.ended(now, ending, home).mul_f64(0.5 + random::fraction());
        slot.retry_at = Some(now + ended.reconnect_in.map_or(pause, |asked| asked.min(LONGEST_ASKED) + pause));
        self.home_lost |= home && slot.comeback.take_look(now);
        let news = was_open || slot.error != ended.reason;
        slot.error = ended.reason;
        self.note_open();
        if news {
            self.tell(region, false);
        }
        if kept {
            self.home_in_doubt = true;
            self.warm_standby(now);
        }
    }

    /// A region that the map withdrew has ended.
    fn forget_withdrawn(&mut self, region: u16) {
        self.close(region);
        self.slots.remove(&region);
        self.note_open();
    }

    /// Close what leads to a region, and forget what was tried; what is known of WebSocket stays.
    pub(super) fn close(&mut self, region: u16) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let was_open = slot.open();
        if let Some(mut link) = slot.link.take() {
            let _ = self.registry.deregister(link.stream().socket()); // closing does it as well
            self.dropped += link.dropped;
        }
        *slot = Slot {
            websocket: slot.websocket.take(),
            websocket_proven: slot.websocket_proven,
            former: slot.former.take(),
            withdrawn: slot.withdrawn,
            resolving: slot.resolving,
            ..Slot::default()
        };
        if was_open {
            self.whereabouts.disconnected(region);
            self.tell(region, false);
        }
        self.note_open();
    }

    /// Keep a link for what peers still send there, while the region gets another.
    pub(super) fn make_former(&mut self, region: u16) {
        self.drop_former(region);
        let peers = self.whereabouts.heard_at(region);
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let Some(mut link) = slot.link.take() else { return };
        (slot.node, slot.readable, slot.returning) = (None, false, true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = token(RELAY, usize::from(region) | FORMER);
        if self.registry.reregister(link.stream().socket(), token, interest).is_ok() {
            slot.former = Some(Former { link, readable: true, peers });
        }
        self.note_open();
    }

    pub(super) fn drop_former(&mut self, region: u16) {
        let former = self.slots.get_mut(&region).and_then(|slot| slot.former.take());
        if let Some(Former { mut link, .. }) = former {
            let _ = self.registry.deregister(link.stream().socket()); // closing does it as well
            self.dropped += link.dropped;
        }
    }
}

/// Whether addresses of a target's family did not answer lately.
fn silent(mute: &[Option<Instant>; 2], now: Instant, target: &Target) -> bool {
    mute[usize::from(target.to.is_ipv6())].is_some_and(|at| now.saturating_duration_since(at) < MUTE)
}

impl Slot {
    /// After a failed attempt: says whether another transport is worth a try at once.
    fn switch_transport(&mut self, ended: &Ended, was_websocket: bool) -> bool {
        if ended.cost < Cost::More {
            return false; // it says nothing of either
        }
        if !was_websocket && self.websocket.is_none() {
            let reason = ended.websocket_reason.clone().or_else(|| ended.suspicious.then(|| ended.reason.clone()));
            self.websocket_proven = ended.websocket_reason.is_some();
            self.websocket = reason;
            return self.websocket.is_some();
        }
        if self.websocket.is_some() && (!self.websocket_proven || self.failures >= WEBSOCKET_FAILURES) {
            (self.websocket, self.websocket_proven) = (None, false);
        }
        false
    }
}
