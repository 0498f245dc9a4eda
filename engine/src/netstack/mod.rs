//! TCP over the tunnel: all connections of a node, their timers and their memory.

pub mod device;
pub mod fragment;
pub mod packet;
mod tcp;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::span::Span;
use device::Batch;
use packet::Ends;
use tcp::{Connection, Segment, State};

/// Windows of all connections together may grow by so much: what peers may send that nobody reads.
const GROWTH_BUDGET: usize = 256 << 20;
/// A connection without news for this long holds no memory for more.
const REST: Duration = Duration::from_secs(10);
/// A read of less than this is not worth a system call.
const LEAST_ROOM: usize = 4 << 10;
/// A path that takes smaller packets only is not served.
const SMALLEST_MTU: usize = 576;
/// Local ports of outgoing connections start here (RFC 6335 §6).
const FIRST_PORT: u16 = 49152;

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

/// What the connections of a node have in common.
#[derive(Debug, Clone)]
pub struct Options {
    pub mtu: usize,
    /// The most that a peer may have on its way to a connection; memory is taken as bytes come.
    pub max_window: usize,
    pub seed: u64,
}

struct Flow {
    ends: Ends,
    connection: Connection,
    waiting: Vec<Span>,
    wake_at: Option<Instant>,
    closing: bool,
    rests: bool,
}

/// All TCP connections of one node.
pub struct Netstack {
    options: Options,
    epoch: Instant,
    /// When something was last done.
    now: Instant,
    flows: Slab<Flow>,
    by_ends: HashMap<Ends, FlowId>,
    wakes: BTreeSet<(Instant, FlowId)>,
    grown: usize,
    port: u16,
}

impl Netstack {
    pub fn new(now: Instant, options: Options) -> Self {
        let port = FIRST_PORT + (options.seed % u64::from(u16::MAX - FIRST_PORT)) as u16;
        Self {
            options,
            epoch: now,
            now,
            flows: Slab::new(),
            by_ends: HashMap::new(),
            wakes: BTreeSet::new(),
            grown: 0,
            port,
        }
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

    /// Begin a connection; the next turn sends its first segment. `None` when there is one with these ends.
    pub fn connect(&mut self, ends: Ends) -> Option<FlowId> {
        let Options { mtu, max_window, .. } = self.options;
        self.insert(ends, Connection::connect(ends, self.first_sequence(&ends), mtu, max_window))
    }

    /// Make a connection that will answer the opening segment which `ends` names; feed it that segment next.
    pub fn accept(&mut self, ends: Ends) -> Option<FlowId> {
        let Options { mtu, max_window, .. } = self.options;
        self.insert(ends, Connection::listen(ends, self.first_sequence(&ends), mtu, max_window))
    }

    /// A sequence number to begin with, which nobody can guess and which moves on with time (RFC 6528).
    fn first_sequence(&self, ends: &Ends) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.options.seed, ends).hash(&mut hasher);
        let steps = self.now.saturating_duration_since(self.epoch).as_micros() / 4;
        (hasher.finish() as u32).wrapping_add(steps as u32)
    }

    fn insert(&mut self, ends: Ends, connection: Connection) -> Option<FlowId> {
        if self.by_ends.contains_key(&ends) {
            return None;
        }
        let flow = Flow { ends, connection, waiting: Vec::new(), wake_at: None, closing: false, rests: false };
        let id = self.flows.insert(flow);
        self.by_ends.insert(ends, id);
        Some(id)
    }

    /// Forget a connection.
    pub fn remove(&mut self, id: FlowId) {
        let Some(flow) = self.flows.try_remove(id) else { return };
        self.by_ends.remove(&flow.ends);
        self.grown -= flow.connection.grown().min(self.grown);
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

    /// Take in the packets that wait for a connection, which may have `limit` bytes in flight; `emit` answers them.
    pub fn ingest(&mut self, now: Instant, id: FlowId, slab: &[u8], limit: usize) {
        self.now = now;
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.rests = false;
        flow.connection.set_limit(limit);
        for span in flow.waiting.drain(..) {
            if let Some(segment) = slab.get(span.start..span.end).and_then(Segment::parse) {
                flow.connection.receive(now, &segment);
            }
        }
    }

    /// Write what a connection has to send to `out`, up to `budget` bytes; says whether there may be more.
    /// Acknowledgements leave in any case.
    pub fn emit(&mut self, now: Instant, id: FlowId, out: &mut Batch, budget: usize) -> bool {
        self.now = now;
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let growth = flow.connection.wants_growth(now);
        if growth > 0 && self.grown + growth <= GROWTH_BUDGET {
            flow.connection.grow(growth);
            self.grown += growth;
        }
        let more = flow.connection.transmit(now, out, budget);
        if !more {
            let wake_at = flow.connection.poll_timeout(now);
            self.wake_by(id, wake_at);
        }
        more
    }

    /// The connections whose peers have answered nothing for too long. Called about once a second, this also lets
    /// connections rest.
    pub fn given_up(&mut self, now: Instant) -> Vec<FlowId> {
        let mut late = Vec::new();
        self.grown = 0;
        for (id, flow) in &mut self.flows {
            if flow.connection.given_up(now) {
                late.push(id);
            }
            if !flow.rests && flow.connection.rests(now, REST) {
                flow.rests = true;
                flow.connection.shrink();
                flow.waiting = Vec::new();
            }
            self.grown += flow.connection.grown();
        }
        late
    }

    /// The path to an address is another than before.
    pub fn path_changed(&mut self, remote: Ipv6Addr) {
        let now = self.now;
        for id in self.to(remote) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.connection.path_changed(now);
                self.wake_by(id, Some(now));
            }
        }
    }

    /// The owner of an address is heard again after a silence.
    pub fn way_restored(&mut self, remote: Ipv6Addr) {
        let now = self.now;
        for id in self.to(remote) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.connection.way_restored(now);
                self.wake_by(id, Some(now));
            }
        }
    }

    /// See to it that a connection gets a turn at `at`. One that comes too early costs less than moving it each time.
    fn wake_by(&mut self, id: FlowId, at: Option<Instant>) {
        let (Some(flow), Some(at)) = (self.flows.get_mut(id), at) else { return };
        if flow.wake_at.is_some_and(|old| old <= at) {
            return;
        }
        if let Some(old) = flow.wake_at.replace(at) {
            self.wakes.remove(&(old, id));
        }
        self.wakes.insert((at, id));
    }

    /// When the next connection wants a turn.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Take a connection whose time has come.
    pub fn next_due(&mut self, now: Instant) -> Option<FlowId> {
        let (at, id) = *self.wakes.first().filter(|(at, _)| *at <= now)?;
        self.wakes.remove(&(at, id));
        if let Some(flow) = self.flows.get_mut(id) {
            flow.wake_at = None;
        }
        Some(id)
    }

    /// Answer a packet that belongs to no connection: a reset, or nothing.
    pub fn refuse(&self, packet: &[u8], out: &mut Batch) {
        tcp::refuse(packet, out);
    }

    pub fn stage(&self, id: FlowId) -> Stage {
        let Some(flow) = self.flows.get(id) else { return Stage::Over };
        match flow.connection.state() {
            State::Closed => Stage::Over,
            State::Listen | State::SynSent | State::SynReceived => Stage::Opening,
            // Nothing more can be said or heard; only the wait for stray segments is left.
            State::TimeWait if !flow.connection.readable() => Stage::Over,
            _ => Stage::Open,
        }
    }

    /// Whether an accepting connection waits for the opening segment.
    pub fn listening(&self, id: FlowId) -> bool {
        self.flows.get(id).is_some_and(|flow| flow.connection.state() == State::Listen)
    }

    /// Hand received bytes to `take`, which says how many it took; returns what `take` returned, or `None` if there
    /// are none.
    pub fn receive<R>(&mut self, id: FlowId, take: impl FnOnce(&[u8]) -> (usize, R)) -> Option<R> {
        let connection = &mut self.flows.get_mut(id)?.connection;
        connection.readable().then(|| connection.take(take))
    }

    /// Whether the peer has finished sending and everything it sent was taken.
    pub fn finished(&self, id: FlowId) -> bool {
        self.flows.get(id).is_some_and(|flow| flow.connection.drained())
    }

    /// Let `fill` write bytes to send, which says how many it wrote; `limit` bounds the bytes in flight.
    /// Returns `None` when there is no room now.
    pub fn send<R>(&mut self, id: FlowId, limit: usize, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        let connection = &mut self.flows.get_mut(id)?.connection;
        connection.set_limit(limit);
        let room = connection.room();
        (room >= LEAST_ROOM).then(|| connection.fill(room, fill))
    }

    /// Whether bytes may still be sent on this connection.
    pub fn may_send(&self, id: FlowId) -> bool {
        self.flows.get(id).is_some_and(|flow| !flow.closing && flow.connection.may_send())
    }

    /// Send no more: the peer reads the end of the stream after what is in the buffer.
    pub fn close(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.closing = true;
            flow.connection.close();
        }
    }

    /// Reset a connection; the next turn tells the peer.
    pub fn abort(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.connection.abort();
        }
    }

    /// Send packets of at most `mtu` bytes on a connection from now on; what is sent again is cut anew.
    pub fn set_mtu(&mut self, id: FlowId, mtu: usize) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.connection.set_mtu(mtu.clamp(SMALLEST_MTU, self.options.mtu.max(SMALLEST_MTU)));
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod kernel_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;
