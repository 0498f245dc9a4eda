//! Pings: how far a peer is, by its path or through the tunnel.

use std::time::{Duration, Instant};

use super::node::Node;
use super::outbox::Event;
use super::peers::PeerId;
use super::views::view;
use crate::tunnel::tsmp::Message as Tsmp;
use crate::wire::keys::Key;

/// A tunnel ping carries its token, and above it the number of the attempt.
const ATTEMPT_SHIFT: u32 = 56;

/// A ping whose answer is awaited.
#[derive(Debug)]
pub struct PendingPing {
    pub key: Key,
    pub tunnel: bool,
    /// When each attempt was sent.
    pub sent_at: Vec<Instant>,
    pub deadline: Instant,
}

/// A ping that was not answered is sent again after this.
const REPEAT: Duration = Duration::from_millis(500);

impl Node {
    /// Ping a peer; the answer is an event with `token`.
    pub fn ping(&mut self, now: Instant, token: u64, key: &Key, tunnel: bool, timeout: Duration) {
        let Some(id) = self.peers.by_key(key) else {
            self.outbox.push(Event::PingFailed { token, reason: "no such peer".into() });
            return;
        };
        self.pings.insert(token, PendingPing { key: *key, tunnel, sent_at: Vec::new(), deadline: now + timeout });
        self.tick_soon(now);
        self.attempt_ping(now, id, token);
    }

    fn attempt_ping(&mut self, now: Instant, id: PeerId, token: u64) {
        let Some(ping) = self.pings.get_mut(&token) else { return };
        let attempt = ping.sent_at.len() as u64;
        ping.sent_at.push(now);
        if !ping.tunnel {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_ping_request(now, token);
            }
            self.peers.touch(id);
            return;
        }
        let remote = self.peers.get(id).and_then(|peer| peer.addresses.first().copied());
        let ends = remote.and_then(|remote| Some((self.source_for(&remote)?, remote)));
        match ends {
            Some((local, remote)) => {
                let data = (attempt << ATTEMPT_SHIFT | token).to_be_bytes();
                self.send_inner(now, id, &Tsmp::Ping(data).packet(local, remote));
            }
            None => {
                self.pings.remove(&token);
                self.outbox.push(Event::PingFailed { token, reason: "the peer has no address".into() });
            }
        }
    }

    /// A TSMP pong came through the tunnel.
    pub fn on_tunnel_pong(&mut self, now: Instant, data: u64) {
        let (token, attempt) = (data & ((1 << ATTEMPT_SHIFT) - 1), (data >> ATTEMPT_SHIFT) as usize);
        let Some(ping) = self.pings.get(&token).filter(|ping| ping.tunnel) else { return };
        let Some(sent_at) = ping.sent_at.get(attempt) else { return };
        let latency = now.saturating_duration_since(*sent_at);
        let peer = self.peers.by_key(&ping.key).and_then(|id| self.peers.get(id));
        let path = peer.map(|peer| view(peer.path.in_use(now)).0).unwrap_or_default();
        self.pings.remove(&token);
        self.outbox.push(Event::Pong { token, latency, path });
    }

    /// Fail the pings whose time is over, and repeat the others: one lost packet is no answer.
    pub fn tick_pings(&mut self, now: Instant) {
        let tokens: Vec<(u64, Key)> = self.pings.iter().map(|(token, ping)| (*token, ping.key)).collect();
        for (token, key) in tokens {
            let late = self.pings.get(&token).is_some_and(|ping| ping.deadline <= now);
            if late {
                self.pings.remove(&token);
                self.outbox.push(Event::PingFailed { token, reason: "no answer in time".into() });
                continue;
            }
            let last = self.pings.get(&token).and_then(|ping| ping.sent_at.last());
            let due = last.is_none_or(|last| now.saturating_duration_since(*last) >= REPEAT);
            if let Some(id) = self.peers.by_key(&key).filter(|_| due) {
                self.attempt_ping(now, id, token);
            }
        }
    }
}
