//! TCP connections of the portable stack: between the netstack and the sockets at their near ends.

mod turns;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use mio::event::Event as Ready;
use mio::unix::SourceFd;
use mio::Interest;
use socket2::{Socket, Type};
use std::os::fd::AsRawFd;

use super::local;
use super::node::{token, Node, FLOW};
use super::outbox::Event;
use super::peers::PeerId;
use crate::netstack::packet::Ends;
use crate::netstack::{FlowId, Stage};
use crate::span::Span;

/// What one connection may put on its way in one go.
const BURST: usize = 256 << 10;
/// All connections of a node together.
pub const MAX_FLOWS: usize = 16_384;
/// Accepted connections and other news that Python has not fetched.
pub const MAX_UNFETCHED: usize = 4096;
/// After the near end was closed the far end has this long to do the same.
const LINGER: Duration = Duration::from_secs(60);
/// Handshakes of accepted connections must complete within this.
pub const ACCEPT_LIMIT: Duration = Duration::from_secs(30);

/// Somebody listens on that port already.
#[derive(Debug, PartialEq, Eq)]
pub struct ListenError;

/// What a connection is for.
pub enum Purpose {
    Dial { token: u64 },
    Listen { port: u16 },
    Forward,
}

/// The near end of a connection.
struct Near {
    peer: PeerId,
    purpose: Purpose,
    socket: Option<Socket>,
    announced: bool,
    readable: bool,
    writable: bool,
    /// The near end has nothing more to send.
    ended: bool,
    /// The far end has finished, and the near end was told.
    told_end: bool,
    /// The near end is closed altogether.
    gone: bool,
    /// Opening or lingering ends here.
    deadline: Option<Instant>,
}

/// The near ends of all connections.
#[derive(Default)]
pub struct Flows {
    near: HashMap<FlowId, Near>,
    listeners: HashSet<u16>,
    /// Connections that want a turn.
    ready: VecDeque<FlowId>,
    queued: HashSet<FlowId>,
    /// Connections that got packets in the present batch.
    fed: VecDeque<FlowId>,
    /// Connections that could not send because the way to the peer is full.
    starved: HashSet<FlowId>,
}

impl Flows {
    pub fn push(&mut self, id: FlowId) {
        if self.queued.insert(id) {
            self.ready.push_back(id);
        }
    }

    /// Whether somebody waits for a connection to open, or to end.
    pub fn opening(&self) -> bool {
        self.near.values().any(|near| near.deadline.is_some())
    }

    pub fn busy(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn next_fed(&mut self) -> Option<FlowId> {
        self.fed.pop_front()
    }
}

impl Node {
    /// Begin a TCP connection.
    pub fn portable_dial(&mut self, now: Instant, token: u64, address: Ipv6Addr, port: u16, timeout: Duration) {
        let begun = self.peers.owner(&address).ok_or("no peer has the address").and_then(|peer| {
            let local = self.source_for(&address).ok_or("this node has no address")?;
            let free = self.netstack.free_port(local, (address, port)).ok_or("all local ports are taken")?;
            let ends = Ends { local: (local, free), remote: (address, port) };
            Ok((peer, self.netstack.connect(ends).ok_or("the connection cannot be made")?))
        });
        match begun {
            Ok((peer, id)) => {
                let near = Near::new(peer, Purpose::Dial { token }, None, now + timeout);
                self.flows.near.insert(id, near);
                self.tick_soon(now);
                self.serve(now, id);
            }
            Err(why) => {
                let reason = format!("{address} cannot be reached: {why}");
                self.outbox.push(Event::DialFailed { token, code: "unreachable", reason });
            }
        }
    }

    /// Give up a dial.
    pub fn portable_cancel_dial(&mut self, now: Instant, token: u64) {
        let dials = |near: &Near| matches!(near.purpose, Purpose::Dial { token: of } if of == token) && !near.announced;
        let id = self.flows.near.iter().find(|(_, near)| dials(near)).map(|(id, _)| *id);
        if let Some(id) = id {
            self.flows.near.remove(&id);
            self.abort_flow(now, id);
        }
    }

    /// Accept connections to a port.
    pub fn portable_listen(&mut self, port: u16) -> Result<(), ListenError> {
        if self.flows.listeners.insert(port) {
            Ok(())
        } else {
            Err(ListenError)
        }
    }

    /// Stop accepting connections to a port.
    pub fn portable_unlisten(&mut self, port: u16) {
        self.flows.listeners.remove(&port);
    }

    /// A TCP segment for us stands in the slab.
    pub fn portable_on_tcp(&mut self, now: Instant, peer: PeerId, ends: Ends, opens: bool, span: Span) {
        if let Some(id) = self.netstack.find(&ends) {
            if self.netstack.enqueue(id, span) {
                self.flows.fed.push_back(id);
            }
            return;
        }
        if self.attempts.contains(&ends) {
            return; // the peer asks again while the local port is being tried
        }
        let room = self.netstack.len() < MAX_FLOWS && self.outbox.len() < MAX_UNFETCHED;
        if opens && room && self.flows.listeners.contains(&ends.local.1) {
            let opening = self.slab.bytes[span.start..span.end].to_vec();
            let purpose = Purpose::Listen { port: ends.local.1 };
            self.portable_accept(now, peer, ends, &opening, purpose, None);
        } else if opens && room && self.config.forward_to_loopback && !self.attempts.full() {
            let opening = self.slab.bytes[span.start..span.end].to_vec();
            self.try_loopback(now, peer, ends, opening, 0);
        } else {
            let packet = self.slab.bytes[span.start..span.end].to_vec();
            self.portable_refuse(now, peer, &packet);
        }
    }

    pub fn portable_refuse(&mut self, now: Instant, peer: PeerId, packet: &[u8]) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.netstack.refuse(packet, &mut out);
        for answer in out.packets() {
            self.send_inner(now, peer, answer);
        }
        self.out = out;
    }

    pub fn portable_accept(
        &mut self,
        now: Instant,
        peer: PeerId,
        ends: Ends,
        opening: &[u8],
        purpose: Purpose,
        near: Option<Socket>,
    ) {
        let Some(id) = self.netstack.accept(ends) else { return };
        if let Some(socket) = &near {
            self.watch(id, socket);
        }
        self.flows.near.insert(id, Near::new(peer, purpose, near, now + ACCEPT_LIMIT));
        self.netstack.enqueue(id, Span { start: 0, end: opening.len() });
        self.netstack.ingest(now, id, opening, BURST);
        self.serve(now, id);
    }

    fn watch(&mut self, id: FlowId, socket: &Socket) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // Fails only when the process is out of kernel memory; the connection then stalls until its peer gives up.
        let _ = self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token(FLOW, id), interest);
    }

    /// A near end can be read or written.
    pub fn flow_ready(&mut self, id: FlowId, event: &Ready) {
        let Some(near) = self.flows.near.get_mut(&id) else { return };
        near.readable |= event.is_readable() || event.is_read_closed();
        near.writable |= event.is_writable();
        if event.is_write_closed() && event.is_read_closed() {
            near.gone = true;
        }
        self.flows.push(id);
    }

    /// Let a connection take in the packets of the present batch.
    pub fn feed(&mut self, now: Instant, id: FlowId) {
        let Some(near) = self.flows.near.get(&id) else { return };
        let limit = self.in_flight_limit(now, near.peer);
        self.netstack.ingest(now, id, &self.slab.bytes, limit);
        self.serve(now, id);
    }

    /// A connection that just opened gets its near end, and Python hears of it.
    fn announce(&mut self, id: FlowId, near: &mut Near) {
        if near.announced || self.netstack.stage(id) != Stage::Open {
            return;
        }
        near.announced = true;
        near.deadline = None;
        if matches!(near.purpose, Purpose::Forward) {
            return;
        }
        let (socket, theirs) = match local::pair(Type::STREAM) {
            Ok(pair) => pair,
            Err(error) => {
                // No descriptors are left: for the peer it is as if the near end had closed at once.
                (near.ended, near.gone) = (true, true);
                if let Purpose::Dial { token } = near.purpose {
                    let reason = format!("no socket for the connection: {error}");
                    self.outbox.push(Event::DialFailed { token, code: "closed", reason });
                }
                self.netstack.abort(id);
                return;
            }
        };
        self.watch(id, &socket);
        near.socket = Some(socket);
        let Some(ends) = self.netstack.ends(id) else { return };
        match near.purpose {
            Purpose::Dial { token } => self.outbox.push(Event::Dialed { token, fd: theirs }),
            Purpose::Listen { port } => {
                let (peer_address, peer_port) = ends.remote;
                self.outbox.push(Event::Accepted { port, fd: theirs, peer_address, peer_port });
            }
            Purpose::Forward => {}
        }
    }

    /// End a connection that is over; says whether it was.
    fn over(&mut self, now: Instant, id: FlowId, near: &mut Near) -> bool {
        let stage = self.netstack.stage(id);
        let fell_back = self.netstack.listening(id);
        if near.gone && near.ended && near.deadline.is_none() {
            near.deadline = Some(now + LINGER);
        }
        let drained = self.netstack.finished(id) || near.socket.is_none();
        match stage {
            Stage::Over if !near.announced => {
                if let Purpose::Dial { token } = near.purpose {
                    let reason = "the peer refused the connection".into();
                    self.outbox.push(Event::DialFailed { token, code: "refused", reason });
                }
            }
            Stage::Over if drained => {}
            _ if fell_back => {}
            _ => return false,
        }
        if let Some(socket) = &near.socket {
            if !(near.ended && near.told_end) {
                local::reset_on_close(socket);
            }
        }
        self.forget(id, near);
        true
    }

    fn forget(&mut self, id: FlowId, near: &mut Near) {
        if let Some(socket) = near.socket.take() {
            let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
            // closing does it as well
        }
        self.flows.starved.remove(&id);
        self.netstack.remove(id);
    }

    /// Reset a connection that has no near end.
    fn abort_flow(&mut self, now: Instant, id: FlowId) {
        let peer = self.netstack.ends(id).and_then(|ends| self.peers.owner(&ends.remote.0));
        if let Some(peer) = peer {
            self.netstack.abort(id);
            self.emit(now, id, peer);
        }
        self.netstack.remove(id);
    }

    /// Reset every connection to an address.
    pub fn portable_reset_to(&mut self, now: Instant, address: Ipv6Addr) {
        for id in self.netstack.to(address) {
            if let Some(mut near) = self.flows.near.remove(&id) {
                if let (Purpose::Dial { token }, false) = (&near.purpose, near.announced) {
                    let reason = "the peer was removed".into();
                    self.outbox.push(Event::DialFailed { token: *token, code: "closed", reason });
                }
                near.socket.iter().for_each(local::reset_on_close);
                self.netstack.abort(id);
                self.emit(now, id, near.peer);
                self.forget(id, &mut near);
            }
        }
    }

    /// End what has waited too long.
    pub fn tick_portable(&mut self, now: Instant) {
        let late = |near: &Near| near.deadline.is_some_and(|at| at <= now);
        let ids = self.flows.near.iter().filter(|(_, near)| late(near)).map(|(id, _)| *id);
        let ids: Vec<FlowId> = ids.chain(self.netstack.given_up(now)).collect();
        for id in ids {
            if let Some(mut near) = self.flows.near.remove(&id) {
                if let (Purpose::Dial { token }, false) = (&near.purpose, near.announced) {
                    let reason = "the peer did not answer in time".into();
                    self.outbox.push(Event::DialFailed { token: *token, code: "timeout", reason });
                }
                self.netstack.abort(id);
                self.emit(now, id, near.peer);
                self.forget(id, &mut near);
            }
        }
    }
}

impl Near {
    fn new(peer: PeerId, purpose: Purpose, socket: Option<Socket>, deadline: Instant) -> Self {
        Self {
            peer,
            purpose,
            socket,
            announced: false,
            // A new socket is writable, and may be readable: the first try tells.
            readable: true,
            writable: true,
            ended: false,
            told_end: false,
            gone: false,
            deadline: Some(deadline),
        }
    }
}
