//! Turns: what each connection may move between the netstack and its near end before the next one is served.

use std::time::Instant;

use super::{Near, BURST};
use crate::driver::local;
use crate::driver::node::Node;
use crate::driver::peers::PeerId;
use crate::driver::udp::UdpPort;
use crate::netstack::FlowId;

/// Goes between tunnel and socket before other connections get their turn.
const ROUNDS: usize = 8;
/// Bytes in flight on a relayed path: relays queue 512 packets for a client and drop the rest.
const RELAYED_IN_FLIGHT: usize = 512 << 10;

impl Node {
    pub(super) fn in_flight_limit(&self, now: Instant, peer: PeerId) -> usize {
        let direct = self.peers.get(peer).is_some_and(|peer| peer.path.route(now).relay.is_none());
        if direct {
            usize::MAX
        } else {
            RELAYED_IN_FLIGHT
        }
    }

    /// Give every connection that wants one a turn.
    pub fn serve_ready(&mut self, now: Instant) {
        for _ in 0..self.flows.ready.len() {
            let Some(id) = self.flows.ready.pop_front() else { return };
            self.flows.queued.remove(&id);
            self.serve(now, id);
        }
    }

    /// Move what can be moved between a connection and its near end.
    pub fn serve(&mut self, now: Instant, id: FlowId) {
        let Some(mut near) = self.flows.near.remove(&id) else {
            self.abort_flow(now, id);
            return;
        };
        let limit = self.in_flight_limit(now, near.peer);
        let mut again = false;
        for _ in 0..ROUNDS {
            self.announce(id, &mut near);
            let alive = self.outward(id, &mut near) && self.inward(id, &mut near, limit);
            if !alive {
                self.netstack.abort(id);
            }
            let unsent = self.emit(now, id, near.peer);
            let unread = near.readable && !near.ended && self.netstack.may_send(id) && self.window_open(id, limit);
            again = (unsent || unread) && !self.flows.starved.contains(&id);
            if !again {
                break;
            }
        }
        if self.over(now, id, &mut near) {
            return;
        }
        self.flows.near.insert(id, near);
        if again {
            self.flows.push(id);
        }
    }

    fn window_open(&mut self, id: FlowId, limit: usize) -> bool {
        self.netstack.send(id, limit, |_| (0, ())).is_some()
    }

    /// From the tunnel to the near end; `false` when the near end can take nothing ever again but there is something.
    fn outward(&mut self, id: FlowId, near: &mut Near) -> bool {
        let Some(socket) = &near.socket else { return true };
        while near.writable {
            let Some(result) = self.netstack.receive(id, |bytes| match local::write(socket, bytes) {
                Ok(Some(count)) => (count, Ok(true)),
                Ok(None) => (0, Ok(false)),
                Err(error) => (0, Err(error)),
            }) else {
                break;
            };
            match result {
                Ok(writable) => near.writable = writable,
                Err(_) => return false,
            }
        }
        if !near.told_end && near.announced && self.netstack.finished(id) {
            near.told_end = true;
            local::end(socket);
        }
        true
    }

    /// From the near end to the tunnel; `false` when the near end was reset.
    fn inward(&mut self, id: FlowId, near: &mut Near, limit: usize) -> bool {
        let Some(socket) = &near.socket else { return true };
        while near.readable && !near.ended && near.announced {
            let Some(result) = self.netstack.send(id, limit, |room| match local::read(socket, room) {
                Ok(Some(count)) => (count, Ok(Some(count))),
                Ok(None) => (0, Ok(None)),
                Err(error) => (0, Err(error)),
            }) else {
                break;
            };
            match result {
                Ok(Some(0)) => {
                    near.ended = true;
                    self.netstack.close(id);
                }
                Ok(Some(_)) => {}
                Ok(None) => near.readable = false,
                Err(_) => return false,
            }
        }
        true
    }

    /// Send what the connection has to send; says whether there is more.
    pub(super) fn emit(&mut self, now: Instant, id: FlowId, peer: PeerId) -> bool {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let budget = if self.blocked(now, peer) { 0 } else { BURST };
        self.netstack.set_mtu(id, self.inner_mtu(peer));
        let more = self.netstack.emit(now, id, &mut out, budget);
        for packet in out.packets() {
            self.send_inner(now, peer, packet);
        }
        self.out = out;
        if more && budget == 0 {
            self.flows.starved.insert(id);
        }
        more
    }

    /// Whether the way to a peer takes no more for now.
    pub fn blocked(&self, now: Instant, peer: PeerId) -> bool {
        let Some(peer) = self.peers.get(peer) else { return false };
        let route = peer.path.route(now);
        match (route.direct, route.relay) {
            (Some(to), None) if to.is_ipv4() => self.wire.udp4.as_ref().is_some_and(UdpPort::blocked),
            (Some(_), None) => self.wire.udp6.as_ref().is_some_and(UdpPort::blocked),
            (_, Some(region)) => self.wire.relays.full(region),
            (None, None) => false,
        }
    }

    /// Give connections that could not send another turn, where the way out has room again.
    pub fn feed_starved(&mut self, now: Instant) {
        if self.flows.starved.is_empty() {
            return;
        }
        let starved = std::mem::take(&mut self.flows.starved);
        for id in starved {
            match self.flows.near.get(&id) {
                Some(near) if self.blocked(now, near.peer) => {
                    self.flows.starved.insert(id);
                }
                _ => self.flows.push(id),
            }
        }
    }
}
