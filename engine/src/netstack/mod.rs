//! TCP over the tunnel, on smoltcp.
//!
//! Every connection is a socket set of its own on one shared interface: a packet finds its connection in a hash map,
//! and a turn costs the same with one connection as with thousands. Packets without a connection go through an empty
//! set, which answers with a reset.

pub mod device;
pub mod fragment;
pub mod packet;
mod recovery;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use slab::Slab;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, CongestionControl, Socket, SocketBuffer};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};

use device::{Batch, Card, Span};
use packet::Ends;
use recovery::Recovery;

/// A peer that acknowledges nothing for this long has gone; an SSH session survives a lunch break without network.
/// (smoltcp's own timeout would also end a connection on which nobody has anything to say.)
const GIVE_UP: Duration = Duration::from_secs(15 * 60);
/// Acknowledge a lone segment after this long, in case data goes back that can carry the acknowledgement.
const ACK_DELAY: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(5);

/// Names a connection for as long as it lives; names are used again.
pub type FlowId = usize;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Opening,
    Open,
    /// Over: reset, refused, timed out or closed by both sides.
    Over,
}

/// What an interface needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    pub addresses: Vec<Ipv6Addr>,
    pub mtu: usize,
    /// Size of the buffer for each direction of a connection; pages that are never touched cost nothing.
    pub buffer: usize,
    pub seed: u64,
}

struct Flow {
    ends: Ends,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    waiting: Vec<Span>,
    recovery: Recovery,
    /// What passes on to smoltcp of the packets that wait.
    passing: Vec<Span>,
    wake_at: Option<Instant>,
    closing: bool,
    /// When something was last heard, or the wait for an answer began.
    heard_at: Option<Instant>,
}

/// All TCP connections of one node.
pub struct Netstack {
    interface: Interface,
    options: Options,
    epoch: Instant,
    flows: Slab<Flow>,
    by_ends: HashMap<Ends, FlowId>,
    wakes: BTreeSet<(Instant, FlowId)>,
    nobody: SocketSet<'static>,
    port: u16,
}

impl Netstack {
    pub fn new(now: Instant, options: Options) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = options.seed;
        let (mut out, mtu) = (Batch::default(), options.mtu);
        let mut card = Card { slab: &[], waiting: &[], out: &mut out, budget: 0, mtu };
        let mut interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|held| {
            for address in &options.addresses {
                // More addresses than the interface holds are refused when the engine is configured.
                let _ = held.push(IpCidr::new(IpAddress::Ipv6(*address), 128));
            }
        });
        // A card without neighbours delivers everything; the route only has to exist.
        let gateway = options.addresses.first().copied().unwrap_or(Ipv6Addr::LOCALHOST);
        let _ = interface.routes_mut().add_default_ipv6_route(gateway);
        let port = FIRST_PORT + (options.seed % u64::from(u16::MAX - FIRST_PORT)) as u16;
        Self {
            interface,
            options,
            epoch: now,
            flows: Slab::new(),
            by_ends: HashMap::new(),
            wakes: BTreeSet::new(),
            nobody: SocketSet::new(Vec::new()),
            port,
        }
    }

    fn clock(&self, now: Instant) -> smoltcp::time::Instant {
        let since = now.saturating_duration_since(self.epoch);
        smoltcp::time::Instant::from_micros(since.as_micros() as i64)
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// The connection with these ends.
    pub fn find(&self, ends: &Ends) -> Option<FlowId> {
        self.by_ends.get(ends).copied()
    }

    /// All connections to this address.
    pub fn to(&self, remote: Ipv6Addr) -> Vec<FlowId> {
        self.flows.iter().filter(|(_, flow)| flow.ends.remote.0 == remote).map(|(id, _)| id).collect()
    }

    /// The ends of a connection.
    pub fn ends(&self, id: FlowId) -> Option<Ends> {
        self.flows.get(id).map(|flow| flow.ends)
    }

    /// Pick a free local port for a connection from `local` to `remote`.
    pub fn free_port(&mut self, local: Ipv6Addr, remote: (Ipv6Addr, u16)) -> Option<u16> {
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.port;
            self.port = if port == u16::MAX { FIRST_PORT } else { port + 1 };
            if !self.by_ends.contains_key(&Ends { local: (local, port), remote }) {
                return Some(port);
            }
        }
        None
    }

    /// Begin a connection; the next turn sends its first segment.
    pub fn connect(&mut self, ends: Ends) -> Option<FlowId> {
        let mut socket = self.socket();
        let (local, remote) = (ends.local, ends.remote);
        socket.connect(self.interface.context(), remote, local).ok()?;
        Some(self.insert(ends, socket))
    }

    /// Make a connection that will answer the opening segment which `ends` names; feed it that segment next.
    pub fn accept(&mut self, ends: Ends) -> Option<FlowId> {
        let mut socket = self.socket();
        let local = IpListenEndpoint { addr: Some(IpAddress::Ipv6(ends.local.0)), port: ends.local.1 };
        socket.listen(local).ok()?;
        Some(self.insert(ends, socket))
    }

    fn socket(&self) -> Socket<'static> {
        let buffer = || SocketBuffer::new(vec![0; self.options.buffer]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY));
        socket
    }

    fn insert(&mut self, ends: Ends, socket: Socket<'static>) -> FlowId {
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let flow = Flow {
            ends,
            sockets,
            handle,
            waiting: Vec::new(),
            recovery: Recovery::new(),
            passing: Vec::new(),
            wake_at: None,
            closing: false,
            heard_at: None,
        };
        let id = self.flows.insert(flow);
        self.by_ends.insert(ends, id);
        id
    }

    /// Forget a connection.
    pub fn remove(&mut self, id: FlowId) {
        let Some(flow) = self.flows.try_remove(id) else { return };
        self.by_ends.remove(&flow.ends);
        if let Some(at) = flow.wake_at {
            self.wakes.remove(&(at, id));
        }
    }

    /// Note that a packet for this connection waits; says whether it is the first since the last `ingest`.
    pub fn enqueue(&mut self, id: FlowId, span: Span) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        flow.waiting.push(span);
        flow.waiting.len() == 1
    }

    /// Take in the packets that wait for a connection; immediate answers go to `out`.
    pub fn ingest(&mut self, now: Instant, id: FlowId, slab: &[u8], out: &mut Batch, limit: usize) {
        let clock = self.clock(now);
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.heard_at = Some(now);
        let limit = limit.min(self.options.buffer);
        let unsent_room = flow.recovery.room().min(limit).saturating_sub(flow.socket().send_queue());
        flow.recovery.set_idle(unsent_room >= self.options.mtu);
        for span in flow.waiting.drain(..) {
            let tcp = packet::tcp(&slab[span.start..span.end]);
            if tcp.is_none_or(|tcp| flow.recovery.acknowledged(now, &tcp, limit)) {
                flow.passing.push(span);
            }
        }
        let (passing, first) = (std::mem::take(&mut flow.passing), out.spans_len());
        let mut card = Card { slab, waiting: &passing, out, budget: 0, mtu: self.options.mtu };
        while self.interface.poll_ingress_single(clock, &mut card, &mut flow.sockets) != PollIngressSingleResult::None {
        }
        out.retain(first, |packet| flow.recovery.sent(now, packet));
        flow.passing = passing;
        flow.passing.clear();
    }

    /// Write what a connection has to send to `out`, up to `budget` bytes; says whether there may be more.
    pub fn emit(&mut self, now: Instant, id: FlowId, out: &mut Batch, budget: usize) -> bool {
        let clock = self.clock(now);
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let repeats = budget > 0 && flow.recovery.repeat(now, out);
        let first = out.spans_len();
        let mut card = Card { slab: &[], waiting: &[], out, budget, mtu: self.options.mtu };
        while self.interface.poll_egress(clock, &mut card, &mut flow.sockets) != PollResult::None {}
        out.retain(first, |packet| flow.recovery.sent(now, packet));
        let wake_at = self.interface.poll_at(clock, &flow.sockets);
        let wake_at = wake_at.map(|at| self.epoch + Duration::from_micros(at.total_micros().max(0) as u64));
        let full = out.len() >= budget && wake_at.is_some_and(|at| at <= now);
        let wake_at = wake_at.into_iter().chain(flow.recovery.poll_timeout()).min();
        let more = repeats || full || (budget == 0 && wake_at.is_some_and(|at| at <= now));
        self.set_wake(id, if more { None } else { wake_at });
        more
    }

    /// The connections whose peers have answered nothing for too long.
    pub fn given_up(&mut self, now: Instant) -> Vec<FlowId> {
        let mut late = Vec::new();
        for (id, flow) in &mut self.flows {
            if !flow.expects_answer() {
                flow.heard_at = Some(now);
            } else if now.saturating_duration_since(*flow.heard_at.get_or_insert(now)) >= GIVE_UP {
                late.push(id);
            }
        }
        late
    }

    /// The path to an address is another than before.
    pub fn path_changed(&mut self, remote: Ipv6Addr) {
        for (_, flow) in self.flows.iter_mut().filter(|(_, flow)| flow.ends.remote.0 == remote) {
            flow.recovery.forget_path();
        }
    }

    fn set_wake(&mut self, id: FlowId, at: Option<Instant>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        if flow.wake_at == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut flow.wake_at, at) {
            self.wakes.remove(&(old, id));
        }
        if let Some(at) = at {
            self.wakes.insert((at, id));
        }
    }

    /// When the next connection wants a turn.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Take a connection whose time has come.
    pub fn next_due(&mut self, now: Instant) -> Option<FlowId> {
        let (at, id) = *self.wakes.first()?;
        if at > now {
            return None;
        }
        self.set_wake(id, None);
        Some(id)
    }

    /// Answer a packet that belongs to no connection: a reset, or nothing.
    pub fn refuse(&mut self, now: Instant, packet: &[u8], out: &mut Batch) {
        let clock = self.clock(now);
        let waiting = [Span { start: 0, end: packet.len() }];
        let mut card = Card { slab: packet, waiting: &waiting, out, budget: 0, mtu: self.options.mtu };
        self.interface.poll_ingress_single(clock, &mut card, &mut self.nobody);
    }

    pub fn stage(&self, id: FlowId) -> Stage {
        let Some(flow) = self.flows.get(id) else { return Stage::Over };
        match flow.socket().state() {
            tcp::State::Closed => Stage::Over,
            // A listening socket that got a reset listens again; for us the one connection it was made for is over.
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => Stage::Opening,
            // Nothing more can be said or heard; only the wait for stray segments is left.
            tcp::State::TimeWait if flow.socket().recv_queue() == 0 => Stage::Over,
            _ => Stage::Open,
        }
    }

    /// Whether an accepting connection fell back to waiting for an opening segment.
    pub fn listening(&self, id: FlowId) -> bool {
        self.flows.get(id).is_some_and(|flow| flow.socket().state() == tcp::State::Listen)
    }

    /// Hand received bytes to `take`, which says how many it took; returns what `take` returned, or `None` if there
    /// are none.
    pub fn receive<R>(&mut self, id: FlowId, take: impl FnOnce(&[u8]) -> (usize, R)) -> Option<R> {
        let socket = self.flows.get_mut(id)?.socket_mut();
        if !socket.can_recv() {
            return None;
        }
        socket.recv(|bytes| take(bytes)).ok()
    }

    /// Whether the peer has finished sending and everything it sent was taken.
    pub fn finished(&self, id: FlowId) -> bool {
        self.flows.get(id).is_some_and(|flow| !flow.socket().may_recv() && flow.socket().recv_queue() == 0)
    }

    /// Let `fill` write bytes to send, which says how many it wrote; `limit` bounds the bytes in flight.
    /// Returns `None` when there is no room now.
    pub fn send<R>(&mut self, id: FlowId, limit: usize, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        let flow = self.flows.get_mut(id)?;
        let room = flow.recovery.room().min(limit).saturating_sub(flow.socket().send_queue());
        if room == 0 || !flow.socket().can_send() {
            return None;
        }
        flow.socket_mut()
            .send(|buffer| {
                let end = buffer.len().min(room);
                fill(&mut buffer[..end])
            })
            .ok()
    }

    /// Whether bytes may still be sent on this connection.
    pub fn may_send(&self, id: FlowId) -> bool {
        self.flows.get(id).is_some_and(|flow| !flow.closing && flow.socket().may_send())
    }

    /// Send no more: the peer reads the end of the stream after what is in the buffer.
    pub fn close(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.closing = true;
            flow.socket_mut().close();
        }
    }

    /// Reset a connection; the next turn tells the peer.
    pub fn abort(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.socket_mut().abort();
        }
    }
}

/// Local ports of outgoing connections start here (RFC 6335 §6).
const FIRST_PORT: u16 = 49152;

impl Flow {
    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    /// Whether something was sent that the peer must acknowledge.
    fn expects_answer(&self) -> bool {
        use tcp::State::{Closing, FinWait1, LastAck, SynReceived, SynSent};
        let socket = self.socket();
        socket.send_queue() > 0 || matches!(socket.state(), SynSent | SynReceived | FinWait1 | Closing | LastAck)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;
