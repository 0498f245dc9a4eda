//! The peers of a node: keys, sessions, paths and counters.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use slab::Slab;

use super::node::Node;
use super::outbox::Event;
use super::random;
use super::udp::UdpPort;
use super::views::{view, Counters};
use crate::path::{InUse, PathEvent, PeerPath, Source};
use crate::tunnel::{Opened, Session, MAX_CONTROL, OVERHEAD};
use crate::wire::disco;
use crate::wire::keys::{Key, SharedKey};

/// Seconds between keepalives to a peer that asks for them.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// An initiation that is not answered is sent again after this, then after twice that, and so on: at the start of a
/// tunnel the other side often hears of us a moment later than we of it. WireGuard's own retry comes after 5 s.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// A peer to which nothing was sent for this long needs no path.
const ACTIVE: Duration = Duration::from_secs(45);
/// After this without a packet a peer was silent: what it did not answer meanwhile is worth trying again. By then a TCP
/// may wait twice as long as it has to, and then twice that.
const SILENT: Duration = Duration::from_millis(300);
/// After this without a packet only a session's end is awaited: keepalives are due after 10 s, retries after 5 s.
const QUIET: Duration = Duration::from_secs(20);
/// After this nothing is left of a session: keys end after 180 s, handshakes after 90 s.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Ticks between two looks at a quiet session.
const SELDOM: usize = 10;
/// First byte of WireGuard messages.
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;

/// Names a peer for as long as it is known; names are used again.
pub type PeerId = usize;

/// What Python says of a peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    pub key: Key,
    pub disco_key: Key,
    pub addresses: Vec<Ipv6Addr>,
    pub home_region: u16,
    /// Where else it is likely to be when its home is gone, best first.
    pub fallback_regions: Vec<u16>,
    pub endpoints: Vec<SocketAddr>,
    pub keepalive: bool,
}

/// A peer.
pub struct Peer {
    pub key: Key,
    disco_key: Key,
    shared: SharedKey,
    pub addresses: Vec<Ipv6Addr>,
    pub home_region: u16,
    keepalive: bool,
    pub session: Session,
    pub path: PeerPath,
    pub counters: Counters,
    pub heard_at: Option<Instant>,
    /// From which of our addresses packets to a direct endpoint leave.
    pub source: Option<IpAddr>,
    sent_at: Option<Instant>,
    /// We answered a handshake; the first data proves that the peer got the answer.
    confirming: bool,
    /// We began a handshake: when to try again, and the pause after that.
    retry: Option<(Instant, Duration)>,
    touched: bool,
    due_at: Option<Instant>,
}

impl Peer {
    /// Note valid datagrams from the peer, of so many bytes together; says whether it had been silent.
    pub fn heard(&mut self, now: Instant, from: Source, datagrams: usize, bytes: usize) -> bool {
        let before = self.heard_at.replace(now);
        self.counters.rx_bytes += bytes as u64;
        self.counters.rx_packets += datagrams as u64;
        self.path.handle_receive(now, from);
        before.is_none_or(|at| now.saturating_duration_since(at) >= SILENT)
    }

    /// Whether something was sent to the peer lately.
    pub fn active(&self, now: Instant) -> bool {
        self.sent_at.is_some_and(|at| now.saturating_duration_since(at) < ACTIVE)
    }

    /// Whether WireGuard's timers are looked at now: each second while packets go back and forth, at its `turn` when there
    /// were none lately, and not at all when a session's last deadline is over.
    fn timers_due(&self, now: Instant, turn: bool) -> bool {
        let Some(last) = self.sent_at.max(self.heard_at) else { return false };
        let quiet_for = now.saturating_duration_since(last);
        quiet_for < QUIET || (turn && quiet_for < FORGOTTEN)
    }

    /// Note datagrams to the peer, of so many bytes together.
    pub fn sent(&mut self, now: Instant, datagrams: usize, bytes: usize) {
        self.sent_at = Some(now);
        self.counters.tx_bytes += bytes as u64;
        self.counters.tx_packets += datagrams as u64;
    }

    /// Note that a message of ours begins a handshake.
    pub fn initiated(&mut self, now: Instant) {
        self.retry.get_or_insert((now + FIRST_RETRY, FIRST_RETRY));
    }

    /// Follow the handshake; says whether it just completed.
    pub fn handshake_step(&mut self, kind: u8, opened: &Opened) -> bool {
        match (kind, opened) {
            (INITIATION, Opened::Reply(_)) => {
                self.confirming = true;
                false
            }
            (RESPONSE, Opened::Reply(_)) => {
                self.retry = None;
                true
            }
            _ => false,
        }
    }

    /// Data came, so the peer has the keys; says whether that was not known before.
    pub fn confirmed(&mut self) -> bool {
        self.retry = None;
        std::mem::take(&mut self.confirming)
    }
}

/// All peers, findable by everything that names one.
pub struct Peers {
    slab: Slab<Peer>,
    by_key: HashMap<Key, PeerId>,
    by_disco: HashMap<Key, PeerId>,
    by_index: HashMap<u32, PeerId>,
    by_address: HashMap<Ipv6Addr, PeerId>,
    due: BTreeSet<(Instant, PeerId)>,
    touched: Vec<PeerId>,
    next_index: u32,
    ticks: usize,
}

impl Peers {
    pub fn new() -> Self {
        Self {
            slab: Slab::new(),
            by_key: HashMap::new(),
            by_disco: HashMap::new(),
            by_index: HashMap::new(),
            by_address: HashMap::new(),
            due: BTreeSet::new(),
            touched: Vec::new(),
            next_index: u32::from_le_bytes(random::bytes()),
            ticks: 0,
        }
    }

    pub fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slab.get_mut(id)
    }

    pub fn get(&self, id: PeerId) -> Option<&Peer> {
        self.slab.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slab.iter().map(|(_, peer)| peer)
    }

    pub fn ids(&self) -> Vec<PeerId> {
        self.slab.iter().map(|(id, _)| id).collect()
    }

    pub fn by_key(&self, key: &Key) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    pub fn by_index(&self, index: u32) -> Option<PeerId> {
        self.by_index.get(&index).copied()
    }

    /// The machine slept this long: keys are older than they seem.
    pub fn slept(&mut self, slept: Duration) {
        self.slab.iter_mut().for_each(|(_, peer)| peer.session.slept(slept));
    }

    /// The peer to which an inner address belongs.
    pub fn owner(&self, address: &Ipv6Addr) -> Option<PeerId> {
        self.by_address.get(address).copied()
    }

    /// Whose disco message it is: the relay or the message may name the node, else the disco key does.
    fn by_disco(&self, disco_key: &Key, node_key: Option<&Key>) -> Option<PeerId> {
        let id = match node_key {
            Some(key) => self.by_key(key)?,
            None => *self.by_disco.get(disco_key)?,
        };
        self.slab.get(id).filter(|peer| peer.disco_key == *disco_key).map(|_| id)
    }

    fn free_index(&mut self) -> u32 {
        loop {
            self.next_index = self.next_index.wrapping_add(1) & 0x00ff_ffff;
            if !self.by_index.contains_key(&self.next_index) {
                return self.next_index;
            }
        }
    }

    /// Remember that a peer's path may have something to say.
    pub fn touch(&mut self, id: PeerId) {
        if let Some(peer) = self.slab.get_mut(id) {
            if !std::mem::replace(&mut peer.touched, true) {
                self.touched.push(id);
            }
        }
    }

    pub fn next_touched(&mut self) -> Option<PeerId> {
        let id = self.touched.pop()?;
        if let Some(peer) = self.slab.get_mut(id) {
            peer.touched = false;
        }
        Some(id)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub fn next_due(&mut self, now: Instant) -> Option<PeerId> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.schedule(id, None);
        Some(id)
    }

    fn schedule(&mut self, id: PeerId, at: Option<Instant>) {
        let Some(peer) = self.slab.get_mut(id) else { return };
        if peer.due_at == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut peer.due_at, at) {
            self.due.remove(&(old, id));
        }
        if let Some(at) = at {
            self.due.insert((at, id));
        }
    }

    fn unlink(&mut self, id: PeerId) {
        let Some(peer) = self.slab.get(id) else { return };
        self.by_index.remove(&peer.session.index());
        let (disco_key, addresses) = (peer.disco_key, peer.addresses.clone());
        if self.by_disco.get(&disco_key) == Some(&id) {
            self.by_disco.remove(&disco_key);
        }
        for address in addresses {
            if self.by_address.get(&address) == Some(&id) {
                self.by_address.remove(&address);
            }
        }
    }

    fn link(&mut self, id: PeerId) {
        let Some(peer) = self.slab.get(id) else { return };
        self.by_index.insert(peer.session.index(), id);
        self.by_disco.insert(peer.disco_key, id);
        for address in &peer.addresses {
            self.by_address.insert(*address, id);
        }
    }
}

impl Node {
    /// Add a peer, or change what is known of it.
    pub fn set_peer(&mut self, now: Instant, config: PeerConfig) {
        let id = match self.peers.by_key(&config.key) {
            Some(id) => id,
            None => self.add_peer(now, &config),
        };
        self.peers.unlink(id);
        let index = self.peers.free_index();
        let path = self.new_path(now);
        self.wire.relays.whereabouts.set_fallbacks(&config.key, &config.fallback_regions);
        if let Some(peer) = self.peers.get_mut(id) {
            if peer.disco_key != config.disco_key {
                peer.disco_key = config.disco_key;
                peer.shared = SharedKey::new(&self.config.disco_private_key, &config.disco_key);
                peer.session.restart(index);
                peer.path = path;
            }
            peer.addresses = config.addresses;
            peer.home_region = config.home_region;
            peer.keepalive = config.keepalive;
            peer.path.handle_home(now, (config.home_region != 0).then_some(config.home_region));
            peer.path.handle_endpoints(now, &config.endpoints);
        }
        self.peers.link(id);
        self.peers.touch(id);
    }

    fn add_peer(&mut self, now: Instant, config: &PeerConfig) -> PeerId {
        let peer = Peer {
            key: config.key,
            disco_key: config.disco_key,
            shared: SharedKey::new(&self.config.disco_private_key, &config.disco_key),
            addresses: config.addresses.clone(),
            home_region: config.home_region,
            keepalive: config.keepalive,
            session: Session::new(self.identity.clone(), &config.key, self.peers.free_index()),
            path: self.new_path(now),
            counters: Counters::default(),
            heard_at: None,
            source: None,
            sent_at: None,
            confirming: false,
            retry: None,
            touched: false,
            due_at: None,
        };
        let id = self.peers.slab.insert(peer);
        self.peers.by_key.insert(config.key, id);
        id
    }

    fn new_path(&self, now: Instant) -> PeerPath {
        let mut path = PeerPath::new(self.public_key, u64::from_le_bytes(random::bytes()));
        path.handle_stack_mtu(self.config.mtu);
        path.handle_block_direct(now, self.config.block_direct);
        path.handle_own_endpoints(now, &self.own_endpoints());
        path.handle_own_nat(self.own_nat_varies());
        path
    }

    /// Forget a peer; its connections are reset.
    pub fn remove_peer(&mut self, now: Instant, key: &Key) {
        let Some(id) = self.peers.by_key.get(key).copied() else { return };
        let addresses = self.peers.get(id).map(|peer| peer.addresses.clone()).unwrap_or_default();
        for address in addresses {
            self.reset_flows_to(now, address);
            self.datagrams_forget(address);
        }
        self.flush(now);
        self.wire.relays.whereabouts.forget(key);
        self.peers.by_key.remove(key);
        self.peers.unlink(id);
        self.peers.schedule(id, None);
        self.peers.touched.retain(|touched| *touched != id);
        self.peers.slab.try_remove(id);
        let pings = self.pings.iter().filter(|(_, ping)| ping.key == *key).map(|(token, _)| *token);
        for token in pings.collect::<Vec<_>>() {
            self.pings.remove(&token);
            self.outbox.push(Event::PingFailed { token, reason: "the peer was removed".into() });
        }
    }

    /// Forbid or allow direct paths.
    pub fn set_block_direct(&mut self, now: Instant, block: bool) {
        self.config.block_direct = block;
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_block_direct(now, block);
            }
            self.peers.touch(id);
        }
        self.endpoints_changed(now);
    }

    /// A disco packet came in; `relay_key` is who sent it, as a relay says.
    pub fn on_disco(&mut self, now: Instant, from: Source, relay_key: Option<&Key>, packet: &[u8]) {
        let Some(sender) = disco::sender(packet) else { return };
        let Some(id) = self.peers.by_disco(&sender, relay_key) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        let Some(message) = disco::open(&peer.shared, packet) else { return };
        if let disco::Message::Ping { node_key: Some(key), .. } = &message {
            if *key != peer.key {
                return;
            }
        }
        peer.path.handle_disco(now, from, &message, packet.len());
        self.peers.touch(id);
    }

    /// Send what a path wants sent and tell what it tells.
    pub fn drain_path(&mut self, now: Instant, id: PeerId) {
        while let Some(peer) = self.peers.get_mut(id) {
            let Some(transmit) = peer.path.poll_transmit() else { break };
            let (message, length) = (&transmit.message, transmit.length);
            let packet = disco::seal_sized(&peer.shared, &self.disco_public_key, &random::bytes(), message, length);
            self.wire.send_alone(now, transmit.to, &peer.key, &packet);
        }
        while let Some(peer) = self.peers.get_mut(id) {
            let Some(event) = peer.path.poll_event() else { break };
            match event {
                PathEvent::Changed { path, reason } => {
                    let (path, latency) = view(path);
                    let key = peer.key;
                    let latency = latency.unwrap_or_default();
                    self.path_changed(now, id);
                    self.outbox.push(Event::PathChanged { key, path, latency, reason });
                    self.note_source(now, id);
                }
                PathEvent::Settled { path, reason } => {
                    let (key, path, latency) = (peer.key, view(path).0, Duration::ZERO);
                    self.outbox.push(Event::PathChanged { key, path, latency, reason });
                }
                PathEvent::Pong { token, latency, via } => {
                    if self.pings.remove(&token).is_some() {
                        let path = match via {
                            Source::Udp(to) => view(InUse::Direct { endpoint: to, latency }).0,
                            Source::Relay { region } => view(InUse::Relayed { region }).0,
                        };
                        self.outbox.push(Event::Pong { token, latency, path });
                    }
                }
                PathEvent::EndpointsWanted => self.begin_netcheck(now, None),
            }
        }
        let timers = |peer: &Peer| [peer.path.poll_timeout(), peer.retry.map(|(at, _)| at)].into_iter().flatten().min();
        let due_at = self.peers.get(id).and_then(timers);
        self.peers.schedule(id, due_at);
    }

    /// Tell paths what the kernel would not send, and why.
    pub fn note_refusals(&mut self, now: Instant) {
        let ports = self.wire.udp4.iter_mut().chain(self.wire.udp6.iter_mut());
        for (to, refusal) in ports.flat_map(UdpPort::take_refusals).collect::<Vec<_>>() {
            for id in self.peers.ids() {
                let Some(peer) = self.peers.get_mut(id) else { continue };
                if peer.path.handle_refused(now, to, refusal) {
                    self.peers.touch(id);
                }
            }
        }
    }

    /// Begin a peer's handshake again, if that is due.
    pub fn retry_handshake(&mut self, now: Instant, id: PeerId) {
        let mut buffer = [0; MAX_CONTROL];
        let Some(peer) = self.peers.get_mut(id) else { return };
        let Some((_, pause)) = peer.retry.filter(|(at, _)| *at <= now) else { return };
        // After that WireGuard's own timers are left to themselves.
        peer.retry = (pause < LAST_RETRY).then_some((now + pause * 2, pause * 2));
        if let Some(length) = peer.session.initiate_again(now, &mut buffer) {
            self.send_sealed(now, id, None, &buffer[..length]);
        }
    }

    /// Renew keys and keep sessions alive.
    pub fn tick_sessions(&mut self, now: Instant) {
        let mut buffer = [0; MAX_CONTROL + OVERHEAD];
        self.peers.ticks = self.peers.ticks.wrapping_add(1);
        let turn = self.peers.ticks % SELDOM;
        for id in self.peers.ids() {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            if peer.timers_due(now, id % SELDOM == turn) {
                if let Some(length) = peer.session.tick(now, &mut buffer) {
                    self.send_sealed(now, id, None, &buffer[..length]);
                }
            }
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let quiet = peer.sent_at.is_none_or(|at| now.saturating_duration_since(at) >= KEEPALIVE);
            if peer.keepalive && quiet {
                self.send_inner(now, id, &[]);
            }
        }
    }
}
