//! Who is connected to a relay, and who gets what. No sockets and no clock: the driver feeds it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::counters::{Counters, DropReason, Kind};
use super::input::{Fault, Input, Item};
use super::outbox::Outbox;
use super::websocket::CloseCode;
use crate::wire::derp::{self, Frame, GoneReason, ServerInfo, PROTOCOL_VERSION};
use crate::wire::disco;
use crate::wire::keys::{self, Key, Nonce, SharedKey};

/// Who has not logged in by then never will.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Clients answer nothing to a keep-alive, but send their own traffic and pings well within this.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// A client that takes nothing for this long is gone or hopeless.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// NATs and proxies forget connections that are silent for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Added to it, by connection, so that they do not all leave at once.
const KEEP_ALIVE_SPREAD_MS: u64 = 5000;
/// "That peer is not here", to one sender: three at once, then one a second.
const NOT_HERE_BURST: u8 = 3;
const NOT_HERE_INTERVAL: Duration = Duration::from_secs(1);
/// A receiver that stalls for longer holds up nobody: what is for it is queued and dropped.
const PATIENCE: Duration = Duration::from_millis(50);
/// Departed peers that a client may remember before they are cleared out.
const SENT_TO_SLACK: usize = 64;

/// Names a connection for as long as it lives: the place may be used again, the number is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub slot: usize,
    serial: u64,
}

struct Connection {
    id: ConnectionId,
    input: Input,
    outbox: Outbox,
    websocket: bool,
    /// Set by the login.
    key: Option<Key>,
    home: bool,
    /// Whom it sent to, on which connection: they are told when it leaves.
    sent_to: HashMap<Key, ConnectionId>,
    heard_at: Instant,
    opened_at: Instant,
    keep_alive_at: Instant,
    /// Since when its socket takes nothing, while there is something to write.
    stalled_since: Option<Instant>,
    not_here_left: u8,
    not_here_refill_at: Instant,
    dirty: bool,
}

/// All connections that logged in with one key.
#[derive(Default)]
struct Peer {
    connections: Vec<ConnectionId>,
    /// Those that sent something, the latest last.
    senders: Vec<ConnectionId>,
    /// The one that packets go to: the latest sender, at first the newest.
    active: Option<ConnectionId>,
}

/// Routes packets between connections.
pub struct Hub {
    private_key: Key,
    public_key: Key,
    connections: Slab<Connection>,
    peers: HashMap<Key, Peer>,
    counters: Arc<Counters>,
    serial: u64,
    dirty: Vec<ConnectionId>,
    /// The receiver that the last input went to and that cannot keep up.
    congested: Option<ConnectionId>,
}

impl Hub {
    /// Make a hub nobody is connected to.
    pub fn new(private_key: &Key, counters: Arc<Counters>) -> Self {
        Self {
            private_key: *private_key,
            public_key: keys::public_key(private_key),
            connections: Slab::new(),
            peers: HashMap::new(),
            counters,
            serial: 0,
            dirty: Vec::new(),
            congested: None,
        }
    }

    /// Add a connection; our greeting waits in its outbox.
    pub fn open(&mut self, now: Instant, websocket: bool) -> ConnectionId {
        self.serial += 1;
        let spread = self.serial.wrapping_mul(2_654_435_761) % KEEP_ALIVE_SPREAD_MS;
        let entry = self.connections.vacant_entry();
        let id = ConnectionId { slot: entry.key(), serial: self.serial };
        let mut outbox = Outbox::new(websocket);
        outbox.put_frame(&Frame::ServerKey { key: self.public_key });
        entry.insert(Connection {
            id,
            input: Input::new(websocket),
            outbox,
            websocket,
            key: None,
            home: false,
            sent_to: HashMap::new(),
            heard_at: now,
            opened_at: now,
            keep_alive_at: now + KEEP_ALIVE + Duration::from_millis(spread),
            stalled_since: None,
            not_here_left: NOT_HERE_BURST,
            not_here_refill_at: now,
            dirty: false,
        });
        self.counters.accepts.add_one();
        self.counters.connections.add_one();
        self.mark_dirty(id);
        id
    }

    /// Count the peers that a connection would tell of its end.
    #[cfg(test)]
    pub fn remembered_by(&self, id: ConnectionId) -> usize {
        self.connections[id.slot].sent_to.len()
    }

    /// Find who sits in a slot.
    pub fn at(&self, slot: usize) -> Option<ConnectionId> {
        self.connections.get(slot).map(|connection| connection.id)
    }

    /// List all connections.
    pub fn all(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|(_, connection)| connection.id).collect()
    }

    /// Take what a connection sent; the bytes are scratch space from then on.
    ///
    /// # Errors
    /// The connection must end: `close` it.
    pub fn handle_bytes(&mut self, now: Instant, id: ConnectionId, bytes: &mut [u8]) -> Result<(), Fault> {
        self.congested = None;
        self.counters.bytes_received.add(bytes.len());
        let Some(connection) = self.get(id) else { return Err(Fault::Closed) };
        connection.heard_at = now;
        let mut input = std::mem::take(&mut connection.input);
        let result = input.feed(bytes, |item| self.on_item(now, id, item));
        if let Some(connection) = self.get(id) {
            connection.input = input;
        }
        result
    }

    /// Say which receiver of the last input cannot keep up, if one: the sender may be let wait for it.
    pub fn congested(&mut self, now: Instant) -> Option<ConnectionId> {
        let id = self.congested.take()?;
        let connection = self.get(id)?;
        let hopeless = connection.stalled_since.is_some_and(|since| now.saturating_duration_since(since) > PATIENCE);
        (connection.outbox.congested() && !hopeless).then_some(id)
    }

    /// Say whether a receiver still cannot keep up.
    pub fn is_congested(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id.slot).filter(|connection| connection.id == id);
        connection.is_some_and(|connection| connection.outbox.congested())
    }

    /// Take the next connection that has something new to write.
    pub fn next_dirty(&mut self) -> Option<ConnectionId> {
        loop {
            let id = self.dirty.pop()?;
            if let Some(connection) = self.get(id) {
                connection.dirty = false;
                return Some(id);
            }
        }
    }

    /// Say what to write to a connection next; empty when there is nothing.
    pub fn unwritten(&self, id: ConnectionId) -> &[u8] {
        let connection = self.connections.get(id.slot).filter(|connection| connection.id == id);
        connection.map_or(&[], |connection| connection.outbox.unwritten())
    }

    /// Note that a connection took this much; 0 when its socket is full.
    pub fn handle_written(&mut self, now: Instant, id: ConnectionId, count: usize) {
        self.counters.bytes_sent.add(count);
        let counters = Arc::clone(&self.counters);
        let Some(connection) = self.get(id) else { return };
        connection.outbox.advance(now, count, |waited| counters.queued(waited));
        connection.stalled_since = match (connection.outbox.unwritten(), count) {
            ([], _) => None,
            (_, 0) => connection.stalled_since.or(Some(now)),
            _ => Some(now),
        };
    }

    /// Note that a connection's socket took something, though nothing of what we count as written.
    pub fn handle_progress(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.get(id) {
            connection.stalled_since = Some(now);
        }
    }

    /// Do what is due by time, about once a second; returns whom to close.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<ConnectionId> {
        let mut late = Vec::new();
        let mut keep_alive = Vec::new();
        for (_, connection) in &mut self.connections {
            let since = |at: Instant| now.saturating_duration_since(at);
            let never_logged_in = connection.key.is_none() && since(connection.opened_at) >= LOGIN_TIMEOUT;
            let stalled = connection.stalled_since.is_some_and(|at| since(at) >= WRITE_TIMEOUT);
            if never_logged_in || stalled || since(connection.heard_at) >= READ_TIMEOUT {
                late.push(connection.id);
            } else if connection.keep_alive_at <= now && connection.key.is_some() {
                connection.keep_alive_at += KEEP_ALIVE;
                connection.outbox.put_frame(&Frame::KeepAlive);
                keep_alive.push(connection.id);
            }
            connection.outbox.shrink();
        }
        keep_alive.into_iter().for_each(|id| self.mark_dirty(id));
        self.forget_departed();
        late
    }

    /// Keep what a long-lived client remembers of short-lived ones from growing.
    fn forget_departed(&mut self) {
        let enough = 2 * self.peers.len() + SENT_TO_SLACK;
        let remembering = self.connections.iter().filter(|(_, each)| each.sent_to.len() > enough);
        let slots: Vec<_> = remembering.map(|(slot, _)| slot).collect();
        for slot in slots {
            let mut sent_to = std::mem::take(&mut self.connections[slot].sent_to);
            sent_to.retain(|_, receiver| self.get(*receiver).is_some());
            sent_to.shrink_to_fit();
            self.connections[slot].sent_to = sent_to;
        }
    }

    /// Tell every client that the relay restarts and when to come back.
    pub fn announce_restart(&mut self, reconnect_in: Duration) {
        let reconnect_in_ms = u32::try_from(reconnect_in.as_millis()).unwrap_or(u32::MAX);
        let frame = Frame::Restarting { reconnect_in_ms, try_for_ms: reconnect_in_ms.saturating_mul(4).max(10_000) };
        for id in self.all() {
            if let Some(connection) = self.get(id).filter(|connection| connection.key.is_some()) {
                connection.outbox.put_frame(&frame);
                self.mark_dirty(id);
            }
        }
    }

    /// Put the last words of a connection that ends for `fault` into its outbox.
    pub fn farewell(&mut self, id: ConnectionId, fault: Fault) {
        let Some(connection) = self.get(id).filter(|connection| connection.websocket) else { return };
        connection.outbox.put_websocket_close(match fault {
            Fault::Closed => CloseCode::Normal,
            Fault::Protocol => CloseCode::ProtocolError,
            Fault::WebSocket(code) => code,
        });
    }

    /// Forget a connection, and tell those it sent to when it was the last one of its key.
    pub fn close(&mut self, id: ConnectionId) {
        if self.get(id).is_none() {
            return;
        }
        let connection = self.connections.remove(id.slot);
        self.counters.connections.take_one();
        let (disco, others) = connection.outbox.queued_packets();
        self.counters.dropped(DropReason::GoneDisconnected, Kind::Disco, disco);
        self.counters.dropped(DropReason::GoneDisconnected, Kind::Other, others);
        if !connection.outbox.unwritten().is_empty() {
            self.counters.dropped(DropReason::WriteError, Kind::Other, 1);
        }
        if connection.home {
            self.counters.home_connections.take_one();
        }
        let Some(key) = connection.key else { return };
        if !self.leave(&key, id) {
            return;
        }
        let gone = Frame::PeerGone { key, reason: GoneReason::Disconnected };
        for (_, receiver) in connection.sent_to {
            if let Some(receiver_connection) = self.get(receiver) {
                receiver_connection.outbox.put_frame(&gone);
                self.counters.peer_gone_disconnected.add_one();
                self.mark_dirty(receiver);
            }
        }
    }

    /// Take a connection out of its peer; says whether the peer is gone with it.
    fn leave(&mut self, key: &Key, id: ConnectionId) -> bool {
        let Some(peer) = self.peers.get_mut(key) else { return false };
        peer.connections.retain(|other| *other != id);
        peer.senders.retain(|other| *other != id);
        match peer.connections[..] {
            [] => {
                self.peers.remove(key);
                self.counters.clients.take_one();
                return true;
            }
            // A single one that is left is an ordinary client again.
            [only] => peer.active = Some(only),
            _ if peer.active == Some(id) => peer.active = peer.senders.last().copied(),
            _ => {}
        }
        false
    }

    fn on_item(&mut self, now: Instant, id: ConnectionId, item: Item<'_>) -> Result<(), Fault> {
        match item {
            Item::Frame { kind, body } => {
                let frame = derp::parse(kind, body).map_err(|_| Fault::Protocol)?;
                self.on_frame(now, id, frame)
            }
            Item::Skipped { kind } => {
                // Some kinds are known, though a relay has no use for them.
                if !matches!(kind, 0x01..=0x0a | 0x10..=0x15) {
                    self.counters.unknown_frames.add_one();
                }
                self.note_sender(id);
                Ok(())
            }
            Item::WebSocketPing(payload) => {
                let connection = self.get(id).ok_or(Fault::Closed)?;
                connection.outbox.put_websocket_pong(&payload);
                self.answer(id)
            }
        }
    }

    fn on_frame(&mut self, now: Instant, id: ConnectionId, frame: Frame<'_>) -> Result<(), Fault> {
        match frame {
            Frame::ClientInfo { key, sealed } => return self.log_in(id, &key, sealed),
            Frame::SendPacket { to, packet } => self.deliver(now, id, &to, packet),
            Frame::NotePreferred { home } => self.note_preferred(id, home),
            Frame::Ping(payload) => {
                self.counters.got_ping.add_one();
                let connection = self.get(id).ok_or(Fault::Closed)?;
                if connection.outbox.put_pong(payload) {
                    self.counters.sent_pong.add_one();
                    self.answer(id)?;
                }
            }
            _ => {}
        }
        self.note_sender(id);
        Ok(())
    }

    fn log_in(&mut self, id: ConnectionId, key: &Key, sealed: &[u8]) -> Result<(), Fault> {
        let shared = SharedKey::new(&self.private_key, key);
        derp::open_client_info(&shared, sealed).map_err(|_| Fault::Protocol)?;
        let mut answer = Vec::new();
        let info = ServerInfo { version: PROTOCOL_VERSION, ..ServerInfo::default() };
        derp::put_server_info(&mut answer, &shared, &random_nonce()?, &info);
        let connection = self.get(id).ok_or(Fault::Closed)?;
        connection.outbox.put_encoded(&answer);
        connection.key = Some(*key);
        let counters = Arc::clone(&self.counters);
        let peer = self.peers.entry(*key).or_insert_with(|| {
            counters.clients.add_one();
            Peer::default()
        });
        peer.connections.push(id);
        peer.active = Some(id);
        self.mark_dirty(id);
        Ok(())
    }

    fn deliver(&mut self, now: Instant, from: ConnectionId, to: &Key, packet: &[u8]) {
        let kind = if disco::is_disco(packet) { Kind::Disco } else { Kind::Other };
        self.counters.received(kind);
        let Some(peer) = self.peers.get(to) else {
            self.counters.dropped(DropReason::UnknownDestination, kind, 1);
            if kind == Kind::Disco {
                self.say_not_here(now, from, to);
            }
            return;
        };
        let Some(receiver) = peer.active else {
            self.counters.dropped(DropReason::DuplicateClient, kind, 1);
            return;
        };
        let Some(sender) = self.get(from) else { return };
        let Some(key) = sender.key else { return };
        sender.sent_to.insert(*to, receiver);
        let Some(connection) = self.get(receiver) else { return };
        let outcome = connection.outbox.put_packet(now, &key, packet);
        if connection.outbox.congested() {
            self.congested = Some(receiver);
        }
        self.counters.packets_sent.add(1 - outcome.dropped_tail);
        // Disco makes room for disco only, and data for data.
        self.counters.dropped(DropReason::QueueHead, kind, outcome.dropped_head);
        self.counters.dropped(DropReason::QueueTail, kind, outcome.dropped_tail);
        self.mark_dirty(receiver);
    }

    fn say_not_here(&mut self, now: Instant, id: ConnectionId, key: &Key) {
        let Some(connection) = self.get(id) else { return };
        if now.saturating_duration_since(connection.not_here_refill_at) >= NOT_HERE_INTERVAL {
            let refill = now.saturating_duration_since(connection.not_here_refill_at).as_secs().min(3) as u8;
            connection.not_here_left = (connection.not_here_left + refill).min(NOT_HERE_BURST);
            connection.not_here_refill_at = now;
        }
        if connection.not_here_left == 0 {
            return;
        }
        connection.not_here_left -= 1;
        connection.outbox.put_frame(&Frame::PeerGone { key: *key, reason: GoneReason::NotHere });
        self.counters.peer_gone_not_here.add_one();
        self.mark_dirty(id);
    }

    fn note_preferred(&mut self, id: ConnectionId, home: bool) {
        let Some(connection) = self.get(id) else { return };
        if connection.home == home {
            return;
        }
        connection.home = home;
        if home {
            self.counters.home_moves_in.add_one();
            self.counters.home_connections.add_one();
        } else {
            self.counters.home_moves_out.add_one();
            self.counters.home_connections.take_one();
        }
    }

    /// Of several connections with one key, packets go to the one that sent last.
    fn note_sender(&mut self, id: ConnectionId) {
        let Some(key) = self.get(id).and_then(|connection| connection.key) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.connections.len() > 1 || peer.senders.is_empty() {
            peer.senders.retain(|other| *other != id);
            peer.senders.push(id);
            peer.active = Some(id);
        }
    }

    /// An answer was put that is never dropped: see that the client reads them.
    fn answer(&mut self, id: ConnectionId) -> Result<(), Fault> {
        self.mark_dirty(id);
        let overflowing = self.get(id).is_none_or(|connection| connection.outbox.overflowing());
        if overflowing {
            Err(Fault::Protocol)
        } else {
            Ok(())
        }
    }

    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot).filter(|connection| connection.id == id)
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get(id).filter(|connection| !connection.dirty) {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }
}

fn random_nonce() -> Result<Nonce, Fault> {
    let mut nonce = [0; keys::NONCE_LEN];
    // Without randomness a login cannot be answered safely, so it is not answered.
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut nonce);
    filled.map(|()| nonce).map_err(|_| Fault::Closed)
}
