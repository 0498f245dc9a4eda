//! What the engine tells Python: a queue, and a descriptor that is readable while it has something.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    Dialed { token: u64, fd: OwnedFd },
    DialFailed { token: u64, code: &'static str, reason: String },
    Accepted { port: u16, fd: OwnedFd, peer_address: Ipv6Addr, peer_port: u16 },
    PathChanged { key: [u8; 32], path: PathView, latency: Duration, reason: String },
    Pong { token: u64, latency: Duration, path: PathView },
    PingFailed { token: u64, reason: String },
    Handshake { key: [u8; 32] },
    RelayChanged { region: u16, connected: bool, home: bool, websocket_reason: String, error: String },
    NetInfo(Box<NetInfo>),
}

/// The path to a peer, as people see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathView {
    pub direct: bool,
    pub endpoint: String,
    pub region: u16,
}

/// What is known of this node's network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NetInfo {
    pub token: u64,
    pub preferred_region: u16,
    pub region_latency: BTreeMap<String, f64>,
    pub forced_websocket: BTreeMap<u16, String>,
    pub endpoints: Vec<String>,
    pub udp: bool,
    pub ipv4: bool,
    pub ipv6: bool,
    pub ipv4_can_send: bool,
    pub ipv6_can_send: bool,
    pub os_has_ipv6: bool,
    pub mapping_varies_by_destination: Option<bool>,
    pub hairpinning: Option<bool>,
    pub global_v4: String,
    pub global_v6: String,
    pub stun_answers: BTreeMap<String, String>,
    pub standby_region: u16,
    pub stun_servers: Vec<StunServer>,
    pub region_errors: BTreeMap<u16, String>,
    pub captive_portal: Option<bool>,
    pub port_mapping: PortMapping,
    pub warnings: Vec<String>,
}

/// A STUN server at one address, and what it said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StunServer {
    pub region: u16,
    pub name: String,
    pub address: String,
    pub mapped: String,
    pub latency: Option<Duration>,
    pub error: String,
}

/// What became of asking the gateway for a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMapping {
    pub protocol: String,
    pub external: String,
    pub reason: String,
    pub pcp: Option<bool>,
    pub nat_pmp: Option<bool>,
    pub upnp: Option<bool>,
}

/// The queue of events, shared between the engine's thread and Python.
pub struct Outbox {
    queue: Mutex<VecDeque<Event>>,
    reader: UnixStream,
    writer: UnixStream,
}

impl Outbox {
    pub fn new() -> std::io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { queue: Mutex::new(VecDeque::new()), reader, writer })
    }

    /// The descriptor that is readable while events wait.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    pub fn push(&self, event: Event) {
        let mut queue = self.locked();
        queue.push_back(event);
        if queue.len() == 1 {
            // One byte stands for "not empty"; if it does not fit, one is there already.
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Take everything that waits.
    pub fn drain(&self) -> Vec<Event> {
        let mut queue = self.locked();
        let mut wakes = [0; 16];
        while matches!((&self.reader).read(&mut wakes), Ok(count) if count > 0) {}
        queue.drain(..).collect()
    }

    pub fn len(&self) -> usize {
        self.locked().len()
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(outbox: &Outbox) -> bool {
        let mut poll = libc::pollfd { fd: outbox.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, and a count of one.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    #[test]
    fn the_descriptor_is_readable_exactly_while_events_wait() {
        let outbox = Outbox::new().expect("a socket pair");
        assert!(!readable(&outbox));
        for _ in 0..3 {
            for token in 0..500 {
                outbox.push(Event::PingFailed { token, reason: String::new() });
            }
            assert!(readable(&outbox));
            assert_eq!(outbox.drain().len(), 500);
            assert!(!readable(&outbox));
        }
    }
}
