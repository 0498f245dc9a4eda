//! The relays of a node: which are connected, which is home, and how packets reach them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event as Ready;
use mio::{Interest, Registry};
use rustls::pki_types::ServerName;

use super::derp::{Arrivals, Ended, Hello, Link, Note};
use super::dns::{resolve, Answer, Names};
use super::map::{DerpMap, RelayNode};
use super::node::{token, Node, RELAY};
use super::outbox::{Event, Outbox};
use super::stream::Stream;
use super::tls::Tls;
use super::{random, Config, Courier};
use crate::wire::keys::Key;

/// A connection that is not home is closed after this long without use.
const IDLE: Duration = Duration::from_secs(60);
/// First and last pause between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Packets that wait for a relay to connect: a handshake and some disco for each peer.
const MAX_WAITING: usize = 256;
/// A relay must answer a ping within this after the network changed.
const PING_LIMIT: Duration = Duration::from_secs(3);
/// A TCP connection must stand within this, else the next address is tried.
const TCP_LIMIT: Duration = Duration::from_millis(1500);

/// What we are to one region.
#[derive(Default)]
struct Slot {
    link: Option<Link>,
    /// Where the present attempt goes, and where the next ones will.
    addresses: VecDeque<(RelayNode, IpAddr)>,
    attempt_at: Option<Instant>,
    resolving: bool,
    waiting: VecDeque<(Key, Vec<u8>)>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why WebSocket is used; empty when it was asked for from the start.
    websocket: Option<String>,
    error: String,
    readable: bool,
    ping_limit: Option<Instant>,
}

/// Connections to relays, and the map that says where they are.
pub struct Relays {
    pub map: DerpMap,
    pub home: u16,
    slots: BTreeMap<u16, Slot>,
    /// Where a peer was heard last, for peers whose home is not connected.
    heard: HashMap<Key, u16>,
    dirty: HashSet<u16>,
    pub names: Names,
    hello: Hello,
    force_websockets: bool,
    tls: Tls,
    registry: Registry,
    outbox: Arc<Outbox>,
    courier: Courier,
    dropped: u64,
    /// The home region was lost, and nobody has looked yet whether another one is there.
    home_lost: bool,
}

impl Relays {
    /// The error is a sentence.
    pub fn new(
        config: &Config,
        public_key: Key,
        registry: &Registry,
        outbox: Arc<Outbox>,
        courier: Courier,
    ) -> Result<Self, String> {
        Ok(Self {
            map: DerpMap::default(),
            home: 0,
            slots: BTreeMap::new(),
            heard: HashMap::new(),
            dirty: HashSet::new(),
            names: Names::default(),
            hello: Hello {
                host: String::new(),
                headers: config.relay_headers.clone(),
                websocket: false,
                private_key: config.private_key,
                public_key,
            },
            force_websockets: config.force_websockets,
            tls: Tls::new(config.tls_ca_pem.clone())?,
            registry: registry.try_clone().map_err(|error| format!("no poll: {error}"))?,
            outbox,
            courier,
            dropped: 0,
            home_lost: false,
        })
    }

    /// Packets dropped because relays were too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.slots.values().filter_map(|slot| slot.link.as_ref()).map(|link| link.dropped).sum::<u64>()
    }

    /// Whether a relay has more to read right now.
    pub fn busy(&self) -> bool {
        self.slots.values().any(|slot| slot.readable)
    }

    /// Whether the relay of a region should be given a rest.
    pub fn full(&self, region: u16) -> bool {
        self.slots.get(&region).and_then(|slot| slot.link.as_ref()).is_some_and(Link::full)
    }

    /// Regions where WebSocket had to be used, and why.
    pub fn forced_websocket(&self) -> BTreeMap<u16, String> {
        let forced = |slot: &Slot| slot.websocket.clone().filter(|reason| !reason.is_empty());
        self.slots.iter().filter_map(|(region, slot)| Some((*region, forced(slot)?))).collect()
    }

    /// Send a packet to a peer by the relay of its home, or by another where it was heard.
    pub fn send(&mut self, now: Instant, region: u16, key: &Key, packet: &[u8]) {
        let open = |region: &u16| self.slots.get(region).and_then(|slot| slot.link.as_ref()).is_some_and(Link::open);
        let heard = self.heard.get(key).copied().filter(|heard| !open(&region) && open(heard));
        let region = heard.unwrap_or(region);
        if !self.map.regions.contains_key(&region) {
            self.dropped += 1;
            return;
        }
        let slot = self.slots.entry(region).or_default();
        match slot.link.as_mut().filter(|link| link.open()) {
            Some(link) => {
                link.send(now, *key, packet);
                self.dirty.insert(region);
            }
            None => {
                if slot.waiting.len() >= MAX_WAITING {
                    slot.waiting.pop_front();
                    self.dropped += 1;
                }
                slot.waiting.push_back((*key, packet.to_vec()));
                if slot.link.is_none() && slot.retry_at.is_none() {
                    self.connect(now, region);
                }
            }
        }
    }

    /// Let what was sent leave.
    pub fn flush(&mut self, now: Instant) {
        for region in std::mem::take(&mut self.dirty) {
            let failed = self.slots.get_mut(&region).and_then(|slot| slot.link.as_mut()?.flush().err());
            if let Some(ended) = failed {
                self.lost(now, region, ended);
            }
        }
    }

    /// Use another map; connections to regions that did not change are kept.
    pub fn set_map(&mut self, now: Instant, map: DerpMap) {
        let old = std::mem::replace(&mut self.map, map);
        let regions: Vec<u16> = self.slots.keys().copied().collect();
        for region in regions {
            if old.regions.get(&region) != self.map.regions.get(&region) {
                self.close(region);
                let known = self.map.regions.contains_key(&region);
                if region == self.home && known {
                    self.connect(now, region);
                } else if !known {
                    self.slots.remove(&region);
                }
            }
        }
        if !self.map.relays().any(|region| region == self.home) {
            self.home = 0;
        }
    }

    /// Move home, and connect there at once.
    pub fn set_home(&mut self, now: Instant, region: u16) {
        if region == self.home {
            return;
        }
        let old = std::mem::replace(&mut self.home, region);
        for (of, home) in [(old, false), (region, true)] {
            if let Some(link) = self.slots.get_mut(&of).and_then(|slot| slot.link.as_mut()) {
                link.set_home(home);
                self.dirty.insert(of);
            }
        }
        let slot = self.slots.entry(region).or_default();
        if slot.link.is_none() && slot.retry_at.is_none() {
            self.connect(now, region);
        } else if slot.link.as_ref().is_some_and(Link::open) {
            self.tell(region, true);
        }
    }

    fn close(&mut self, region: u16) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let was_open = slot.link.as_ref().is_some_and(Link::open);
        if let Some(mut link) = slot.link.take() {
            let _ = self.registry.deregister(link.stream().socket()); // closing does it as well
            self.dropped += link.dropped;
        }
        *slot = Slot { websocket: slot.websocket.take(), ..Slot::default() };
        if was_open {
            self.tell(region, false);
        }
    }

    /// Begin to connect to a region.
    fn connect(&mut self, now: Instant, region: u16) {
        let Some(described) = self.map.regions.get(&region) else { return };
        let websocket = self.force_websockets || self.slots.get(&region).is_some_and(|slot| slot.websocket.is_some());
        let nodes: Vec<RelayNode> = described.relays().take(if websocket { 1 } else { usize::MAX }).cloned().collect();
        let slot = self.slots.entry(region).or_default();
        slot.retry_at = None;
        slot.addresses.clear();
        let mut unknown = Vec::new();
        for node in nodes {
            match self.names.of(now, &node) {
                Some(addresses) => slot.addresses.extend(addresses.into_iter().map(|address| (node.clone(), address))),
                None => unknown.push(node.host_name),
            }
        }
        if !slot.addresses.is_empty() {
            self.next_address(now, region);
        } else if !unknown.is_empty() && !slot.resolving {
            slot.resolving = true;
            resolve(self.courier.clone(), unknown, move |node, now, found| {
                node.wire.relays.resolved(now, region, found);
            });
        } else if unknown.is_empty() {
            let reason = format!("region {region} has no relay with an address that can be used");
            self.lost(now, region, Ended::because(reason));
        }
    }

    fn resolved(&mut self, now: Instant, region: u16, found: Vec<Answer>) {
        let (mut problem, mut any) = (String::new(), false);
        for (host, addresses) in found {
            match addresses {
                Ok(addresses) => {
                    any = true;
                    self.names.learn(now, host, addresses);
                }
                Err(error) => problem = format!("the name {host} cannot be resolved: {error}"),
            }
        }
        let Some(slot) = self.slots.get_mut(&region) else { return };
        slot.resolving = false;
        if any {
            self.connect(now, region);
        } else {
            self.lost(now, region, Ended::because(problem));
        }
    }

    fn next_address(&mut self, now: Instant, region: u16) {
        let Some((node, address)) = self.slots.get_mut(&region).and_then(|slot| slot.addresses.pop_front()) else {
            return;
        };
        match self.link_to(now, region, &node, address) {
            Ok(link) => {
                let Some(slot) = self.slots.get_mut(&region) else { return };
                slot.link = Some(link);
                slot.attempt_at = Some(now);
            }
            Err(reason) => self.lost(now, region, Ended::because(reason)),
        }
    }

    fn link_to(&mut self, now: Instant, region: u16, node: &RelayNode, address: IpAddr) -> Result<Link, String> {
        let mut stream = self.stream_to(node, address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = token(RELAY, usize::from(region));
        self.registry.register(stream.socket(), token, interest).map_err(|error| error.to_string())?;
        let websocket = self.force_websockets || self.slots.get(&region).is_some_and(|slot| slot.websocket.is_some());
        let hello = Hello { host: node.host_header(), websocket, ..self.hello.clone() };
        Ok(Link::new(now, stream, hello, region == self.home))
    }

    /// Begin a connection to a node, with TLS as the map says.
    pub fn stream_to(&mut self, node: &RelayNode, address: IpAddr) -> Result<Stream, String> {
        let tls = if node.force_http {
            None
        } else {
            let name = ServerName::try_from(node.tls_name().to_owned())
                .map_err(|_| format!("`{}` cannot be the name in a certificate", node.tls_name()))?;
            Some((self.tls.config(node.insecure_for_tests)?, name))
        };
        Stream::connect(SocketAddr::new(address, node.relay_port()), tls).map_err(|error| error.to_string())
    }

    /// Forget where a peer was heard.
    pub fn forget(&mut self, key: &Key) {
        self.heard.remove(key);
    }

    /// The headers that go with every request to a relay.
    pub fn headers(&self) -> &[(String, String)] {
        &self.hello.headers
    }

    /// A connection ended or could not be made.
    fn lost(&mut self, now: Instant, region: u16, ended: Ended) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let was_open = slot.link.as_ref().is_some_and(Link::open);
        if let Some(mut link) = slot.link.take() {
            let _ = self.registry.deregister(link.stream().socket()); // closing does it as well
            self.dropped += link.dropped;
        }
        (slot.readable, slot.attempt_at, slot.ping_limit) = (false, None, None);
        self.heard.retain(|_, of| *of != region);
        if let Some(reason) = ended.websocket_reason {
            slot.websocket = Some(reason);
            slot.addresses.clear();
            self.connect(now, region);
            return;
        }
        if !was_open && !slot.addresses.is_empty() {
            self.next_address(now, region);
            return;
        }
        slot.failures = if was_open { 0 } else { slot.failures.saturating_add(1) };
        let pause = FIRST_PAUSE.saturating_mul(1 << slot.failures.min(5)).min(LAST_PAUSE);
        // Jitter, so that the clients of a relay that restarts do not come back all at once.
        let pause = pause.mul_f64(0.5 + random::fraction());
        slot.retry_at = Some(now + ended.reconnect_in.map_or(pause, |asked| asked.min(LAST_PAUSE) + pause));
        // In a long outage look ever more seldom.
        self.home_lost |= region == self.home && (was_open || slot.failures.is_power_of_two());
        let news = was_open || slot.error != ended.reason;
        slot.error = ended.reason;
        if news {
            self.tell(region, false);
        }
    }

    /// Say once whether the home region was lost and did not come back by itself, where another could take its place.
    pub fn take_home_lost(&mut self) -> bool {
        let open = self.slots.get(&self.home).and_then(|slot| slot.link.as_ref()).is_some_and(Link::open);
        std::mem::take(&mut self.home_lost) && !open && self.map.relays().count() > 1
    }

    fn tell(&self, region: u16, connected: bool) {
        let slot = self.slots.get(&region);
        let websocket_reason = slot.and_then(|slot| slot.websocket.clone()).unwrap_or_default();
        let error = if connected { String::new() } else { slot.map(|slot| slot.error.clone()).unwrap_or_default() };
        let home = region == self.home;
        self.outbox.push(Event::RelayChanged { region, connected, home, websocket_reason, error });
    }

    /// A relay's socket can be read or written.
    pub fn ready(&mut self, region: usize, _: &Ready) {
        if let Some(slot) = u16::try_from(region).ok().and_then(|region| self.slots.get_mut(&region)) {
            slot.readable = true;
        }
    }

    /// Give a connection its turn.
    fn turn(&mut self, now: Instant, region: u16, arrivals: &mut Arrivals) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let Some(link) = &mut slot.link else {
            slot.readable = false;
            return;
        };
        let result = link.turn(now, arrivals);
        if matches!(result, Ok(false) | Err(_)) {
            slot.readable = false;
        }
        for note in &arrivals.notes {
            match note {
                Note::Open => {
                    (slot.failures, slot.error) = (0, String::new());
                    slot.addresses.clear();
                    for (key, packet) in slot.waiting.drain(..) {
                        link.send(now, key, &packet);
                    }
                    self.dirty.insert(region);
                }
                Note::Packet { .. } => {}
                Note::PeerGone { key } => {
                    if self.heard.get(key) == Some(&region) {
                        self.heard.remove(key);
                    }
                }
                Note::Pong => slot.ping_limit = None,
            }
        }
        if arrivals.notes.iter().any(|note| matches!(note, Note::Open)) {
            self.tell(region, true);
        }
        if let Err(ended) = result {
            self.lost(now, region, ended);
        }
    }

    /// The network changed: whoever does not answer now is reconnected.
    pub fn rebind(&mut self, now: Instant) {
        for (region, slot) in &mut self.slots {
            if let Some(link) = slot.link.as_mut().filter(|link| link.open()) {
                link.ping(random::bytes());
                slot.ping_limit = Some(now + PING_LIMIT);
                self.dirty.insert(*region);
            } else if slot.retry_at.is_some() {
                slot.retry_at = Some(now);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let regions: Vec<u16> = self.slots.keys().copied().collect();
        for region in regions {
            let home = region == self.home;
            let Some(slot) = self.slots.get_mut(&region) else { continue };
            let slow = slot.link.as_ref().is_some_and(|link| !link.open())
                && !slot.addresses.is_empty()
                && slot.attempt_at.is_some_and(|at| now.duration_since(at) > TCP_LIMIT);
            let ended = match &slot.link {
                Some(_) if slow => Some("the relay's address does not answer".to_owned()),
                Some(_) if slot.ping_limit.is_some_and(|at| at <= now) => Some("the relay does not answer".to_owned()),
                Some(link) => link.check(now).err().map(|ended| ended.reason),
                None => None,
            };
            if let Some(reason) = ended {
                self.lost(now, region, Ended::because(reason));
                continue;
            }
            let idle = slot.link.as_ref().is_some_and(|link| now.duration_since(link.used_at) > IDLE);
            if idle && !home {
                self.close(region);
                continue;
            }
            if slot.retry_at.is_some_and(|at| at <= now) {
                slot.retry_at = None;
                if home || !slot.waiting.is_empty() {
                    self.connect(now, region);
                }
            }
        }
    }

    /// When an attempt to connect is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.retry_at).min()
    }
}

impl Node {
    /// Use another DERP map.
    pub fn set_derp_map(&mut self, now: Instant, map: DerpMap) {
        self.wire.relays.set_map(now, map);
        let relays: Vec<u16> = self.wire.relays.map.relays().collect();
        if let ([only], 0) = (&relays[..], self.wire.relays.home) {
            // Nothing to measure: the first packet need not wait for a report.
            self.wire.relays.set_home(now, *only);
            self.report_early(now);
        }
        self.begin_netcheck(now, None);
    }

    /// Give every relay that has news its turn.
    pub fn relays_turn(&mut self, now: Instant) {
        let ready: Vec<u16> =
            self.wire.relays.slots.iter().filter(|(_, slot)| slot.readable).map(|(region, _)| *region).collect();
        for region in ready {
            let mut arrivals = Arrivals::default();
            self.wire.relays.turn(now, region, &mut arrivals);
            for note in &arrivals.notes {
                if let Note::Packet { from, span } = note {
                    // Of strangers there may be any number.
                    if self.peers.by_key(from).is_some() {
                        self.wire.relays.heard.insert(*from, region);
                    }
                    self.on_relayed(now, region, from, &arrivals.bytes[span.clone()]);
                }
            }
            self.end_of_batch(now);
            if arrivals.notes.iter().any(|note| matches!(note, Note::Open)) {
                self.report(Vec::new()); // WebSocket may have been forced
            }
        }
    }

    pub fn tick_relays(&mut self, now: Instant) {
        self.wire.relays.tick(now);
    }
}
