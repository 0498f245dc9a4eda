//! UDP over the tunnel: flows between peers and the sockets at their near ends.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::Interest;
use slab::Slab;
use socket2::{Socket, Type};

use super::local;
use super::node::{token, Node, DATAGRAM};
use super::peers::PeerId;
use super::random;
use crate::netstack::fragment;
use crate::netstack::packet::{self, Ends, Inner, UDP_HEADER};
use crate::span::Span;

/// A forwarded flow without packets ends after this.
const IDLE: Duration = Duration::from_secs(120);
/// To a DNS server, after this.
const IDLE_DNS: Duration = Duration::from_secs(30);
/// A flow that Python dialled: the end of a datagram socket pair cannot tell that its other end was closed.
const IDLE_DIALED: Duration = Duration::from_secs(600);
const DNS: u16 = 53;
/// Flows of a node; a new one beyond this is dropped.
const MAX_FLOWS: usize = 4096;
/// Datagrams taken from one flow before others get their turn.
const TURN: usize = 64;
/// Larger datagrams than an IPv6 packet carries are dropped.
const LARGEST: usize = 65_535 - UDP_HEADER;

/// Why a UDP flow cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub enum DialUdpError {
    /// No peer has the address.
    Unreachable,
    /// The kernel gives no sockets, or there are too many flows.
    Exhausted,
}

struct Flow {
    peer: PeerId,
    ends: Ends,
    socket: Socket,
    used_at: Instant,
    idle: Duration,
    /// Which loopback address a flow to a port of this machine goes to.
    forwarded: Option<usize>,
    /// The last datagram, until the first answer: it goes to the other address when nobody listens on the first.
    unanswered: Option<Vec<u8>>,
}

/// All UDP flows of a node.
#[derive(Default)]
pub struct Datagrams {
    flows: Slab<Flow>,
    by_ends: HashMap<Ends, usize>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub fn len(&self) -> usize {
        self.flows.len()
    }
}

impl Node {
    /// Open a UDP flow to a peer's port; returns the end for Python.
    pub fn dial_udp(&mut self, now: Instant, address: Ipv6Addr, port: u16) -> Result<OwnedFd, DialUdpError> {
        let peer = self.peers.owner(&address).ok_or(DialUdpError::Unreachable)?;
        let local = self.source_for(&address).ok_or(DialUdpError::Unreachable)?;
        let remote = (address, port);
        let free = (0..64).filter_map(|_| self.netstack.free_port(local, remote));
        let taken = |port: &u16| self.datagrams.by_ends.contains_key(&Ends { local: (local, *port), remote });
        let free: Vec<u16> = free.collect();
        let port = free.into_iter().find(|port| !taken(port)).ok_or(DialUdpError::Exhausted)?;
        let (ours, theirs) = local::pair(Type::DGRAM).map_err(|_| DialUdpError::Exhausted)?;
        let ends = Ends { local: (local, port), remote };
        let flow =
            Flow { peer, ends, socket: ours, used_at: now, idle: IDLE_DIALED, forwarded: None, unanswered: None };
        self.insert_datagrams(flow).ok_or(DialUdpError::Exhausted)?;
        Ok(theirs)
    }

    fn insert_datagrams(&mut self, flow: Flow) -> Option<usize> {
        if self.datagrams.flows.len() >= MAX_FLOWS {
            return None;
        }
        let (ends, fd) = (flow.ends, flow.socket.as_raw_fd());
        let id = self.datagrams.flows.insert(flow);
        if self.registry.register(&mut SourceFd(&fd), token(DATAGRAM, id), Interest::READABLE).is_err() {
            self.datagrams.flows.remove(id);
            return None;
        }
        self.datagrams.by_ends.insert(ends, id);
        Some(id)
    }

    /// A UDP packet for us stands in the slab.
    pub fn on_inner_udp(&mut self, now: Instant, peer: PeerId, ends: Ends, span: Span) {
        let id = match self.datagrams.by_ends.get(&ends) {
            Some(id) => *id,
            None if self.config.forward_to_loopback => match self.forward_datagrams(now, peer, ends, 0) {
                Some(id) => id,
                None => return,
            },
            None => return, // nobody listens: a client refuses
        };
        let bytes = &self.slab.bytes[span.start..span.end];
        let Some(payload) = Inner::parse(bytes).and_then(|inner| inner.datagram()) else { return };
        let Some(flow) = self.datagrams.flows.get_mut(id) else { return };
        flow.used_at = now;
        if let Some(unanswered) = &mut flow.unanswered {
            unanswered.clear();
            unanswered.extend_from_slice(payload);
        }
        match local::write(&flow.socket, payload) {
            Ok(Some(_)) => {}
            Ok(None) => self.totals.dropped_packets += 1,
            Err(error) => self.near_failed(now, id, &error),
        }
    }

    /// The near end cannot be used: try the other loopback address, else give the flow up.
    fn near_failed(&mut self, now: Instant, id: usize, error: &std::io::Error) {
        let Some(flow) = self.datagrams.flows.get_mut(id) else { return };
        let (peer, ends, forwarded, unanswered) = (flow.peer, flow.ends, flow.forwarded, flow.unanswered.take());
        self.forget_datagrams(id);
        let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
        let (Some(tried), Some(payload), true) = (forwarded, unanswered, refused) else { return };
        let next = self.forward_datagrams(now, peer, ends, tried + 1);
        if let Some(flow) = next.and_then(|id| self.datagrams.flows.get_mut(id)) {
            let _ = local::write(&flow.socket, &payload); // a datagram may be lost
            flow.unanswered = Some(payload);
        }
    }

    fn forward_datagrams(&mut self, now: Instant, peer: PeerId, ends: Ends, tried: usize) -> Option<usize> {
        let port = ends.local.1;
        let to = *local::loopbacks(port).get(tried)?;
        let socket = local::connect_udp(to, ends.remote.1).ok()?;
        let idle = if port == DNS { IDLE_DNS } else { IDLE };
        self.insert_datagrams(Flow {
            peer,
            ends,
            socket,
            used_at: now,
            idle,
            forwarded: Some(tried),
            unanswered: Some(Vec::new()),
        })
    }

    /// A near end has datagrams.
    pub fn datagram_ready(&mut self, now: Instant, id: usize) {
        let mut buffer = std::mem::take(&mut self.datagrams.buffer);
        buffer.resize(LARGEST + 1, 0);
        let mut turns = 0;
        while let Some(flow) = self.datagrams.flows.get_mut(id) {
            let (peer, ends) = (flow.peer, flow.ends);
            match local::read(&flow.socket, &mut buffer) {
                Ok(Some(length)) if length <= LARGEST => {
                    flow.used_at = now;
                    flow.unanswered = None;
                    let packet = packet::udp(ends, &buffer[..length]);
                    let mtu = self.inner_mtu(peer);
                    if packet.len() <= mtu {
                        self.send_inner(now, peer, &packet);
                    } else {
                        let identification = u32::from_le_bytes(random::bytes());
                        for piece in fragment::split(&packet, mtu, identification) {
                            self.send_inner(now, peer, &piece);
                        }
                    }
                }
                Ok(Some(_)) => self.totals.dropped_packets += 1,
                Ok(None) => break,
                Err(error) => {
                    self.near_failed(now, id, &error);
                    break;
                }
            }
            turns += 1;
            if turns % TURN == 0 {
                self.flush(now);
            }
        }
        self.datagrams.buffer = buffer;
    }

    fn forget_datagrams(&mut self, id: usize) {
        if let Some(flow) = self.datagrams.flows.try_remove(id) {
            self.datagrams.by_ends.remove(&flow.ends);
            let _ = self.registry.deregister(&mut SourceFd(&flow.socket.as_raw_fd()));
            // closing does it as well
        }
    }

    /// End every flow with an address.
    pub fn datagrams_forget(&mut self, address: Ipv6Addr) {
        let flows = self.datagrams.flows.iter().filter(|(_, flow)| flow.ends.remote.0 == address);
        for id in flows.map(|(id, _)| id).collect::<Vec<_>>() {
            self.forget_datagrams(id);
        }
    }

    /// End flows that nobody uses.
    pub fn tick_datagrams(&mut self, now: Instant) {
        let idle = |flow: &Flow| now.saturating_duration_since(flow.used_at) >= flow.idle;
        let flows = self.datagrams.flows.iter().filter(|(_, flow)| idle(flow));
        for id in flows.map(|(id, _)| id).collect::<Vec<_>>() {
            self.forget_datagrams(id);
        }
    }
}
