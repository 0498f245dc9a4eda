//! Ports without a listener: a local one is tried before the peer's connection is accepted.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::Interest;
use slab::Slab;
use socket2::Socket;

use super::local;
use super::node::{token, Node, PENDING};
use super::peers::PeerId;
use crate::netstack::packet::Ends;

/// A node may have this many connection attempts waiting for local ports.
const MAX_PENDING: usize = 1024;
/// A local port that does not answer within this is refused.
const LOCAL_CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// An opening segment whose local port is being tried.
struct Pending {
    peer: PeerId,
    ends: Ends,
    opening: Vec<u8>,
    socket: Socket,
    /// How many loopback addresses were tried before.
    tried: usize,
    deadline: Instant,
}

/// All opening segments that wait.
#[derive(Default)]
pub struct Attempts {
    slab: Slab<Pending>,
    by_ends: HashMap<Ends, usize>,
}

impl Attempts {
    pub fn contains(&self, ends: &Ends) -> bool {
        self.by_ends.contains_key(ends)
    }

    pub fn full(&self) -> bool {
        self.slab.len() >= MAX_PENDING
    }
}

impl Node {
    /// Try a local port before the peer's connection is accepted.
    pub fn try_loopback(&mut self, now: Instant, peer: PeerId, ends: Ends, opening: Vec<u8>, tried: usize) {
        for (index, address) in local::loopbacks(ends.local.1).into_iter().enumerate().skip(tried) {
            let Ok(socket) = local::connect(address) else { continue };
            let pending = Pending { peer, ends, opening, socket, tried: index, deadline: now + LOCAL_CONNECT_LIMIT };
            let id = self.attempts.slab.insert(pending);
            self.attempts.by_ends.insert(ends, id);
            let fd = self.attempts.slab[id].socket.as_raw_fd();
            if self.registry.register(&mut SourceFd(&fd), token(PENDING, id), Interest::WRITABLE).is_err() {
                self.drop_pending(id);
            }
            return;
        }
        self.refuse(now, peer, &opening);
    }

    fn drop_pending(&mut self, id: usize) -> Option<Pending> {
        let pending = self.attempts.slab.try_remove(id)?;
        self.attempts.by_ends.remove(&pending.ends);
        let _ = self.registry.deregister(&mut SourceFd(&pending.socket.as_raw_fd())); // closing does it as well
        Some(pending)
    }

    /// A local port answered, or refused.
    pub fn pending_ready(&mut self, now: Instant, id: usize) {
        let Some(pending) = self.attempts.slab.get(id) else { return };
        let failed = local::connect_error(&pending.socket).is_some();
        if !failed && pending.socket.peer_addr().is_err() {
            return; // not yet
        }
        let Some(Pending { peer, ends, opening, socket, tried, .. }) = self.drop_pending(id) else { return };
        if self.peers.owner(&ends.remote.0) != Some(peer) {
            return; // the peer was removed meanwhile
        }
        if failed {
            drop(socket);
            self.try_loopback(now, peer, ends, opening, tried + 1);
        } else {
            self.forward(now, peer, ends, &opening, socket);
        }
    }

    /// Forget the attempts of a peer's address.
    pub fn forget_attempts(&mut self, address: Ipv6Addr) {
        let attempts = self.attempts.slab.iter().filter(|(_, pending)| pending.ends.remote.0 == address);
        for id in attempts.map(|(id, _)| id).collect::<Vec<_>>() {
            self.drop_pending(id);
        }
    }

    /// Refuse what has waited too long.
    pub fn tick_attempts(&mut self, now: Instant) {
        let late = self.attempts.slab.iter().filter(|(_, pending)| pending.deadline <= now);
        for id in late.map(|(id, _)| id).collect::<Vec<_>>() {
            if let Some(pending) = self.drop_pending(id) {
                self.refuse(now, pending.peer, &pending.opening);
            }
        }
    }
}
