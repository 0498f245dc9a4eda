//! The relays of a node: which are connected, which is home, and how packets reach them.
//!
//! Two are kept connected where there are two: the home region, and the next nearest as a standby. When home is lost the
//! standby takes its place at once. A region that a new map moves or withdraws is served until nobody uses it any more,
//! since peers learn of the change at another moment than we do.

mod comeback;
mod connect;
mod renew;
mod turns;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;

use super::derp::{Cost, Hello, Link};
use super::dns::Names;
use super::map::{DerpMap, RelayNode};
use super::outbox::{Event, Outbox};
use super::proxy::{Proxies, Proxy};
use super::tls::Tls;
use super::whereabouts::{Reach, Whereabouts};
use super::{Config, Courier};
use crate::wire::keys::Key;
use comeback::Comeback;

/// Packets that wait for a relay to connect: a handshake and some disco for each peer.
const MAX_WAITING: usize = 256;
/// A region that failed is not chosen as home or standby again within this, unless it is connected.
const FAILED: Duration = Duration::from_secs(60);
/// A family whose addresses did not answer comes last for this long: IPv6 that leads nowhere is common.
const MUTE: Duration = Duration::from_secs(300);
/// Beside the region's number in a token: the link to where the region was before the map changed.
const FORMER: usize = 1 << 16;
/// And the link that may take the place of one in doubt.
const RIVAL: usize = 1 << 17;

/// Where an attempt to connect goes.
#[derive(Debug, Clone)]
pub struct Target {
    pub node: RelayNode,
    /// The relay, or the proxy before it.
    pub to: SocketAddr,
    proxy: Option<Proxy>,
}

/// Why it is not known yet where a relay can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// The DNS must be asked for this name.
    Name(String),
    /// It cannot be; the text is a sentence.
    Never(String),
}

/// A link that the map no longer asks for: peers may still be there.
struct Former {
    link: Link,
    readable: bool,
    /// Peers that were heard by it, and not by its successor yet: they know of the change later than we do.
    peers: HashSet<Key>,
}

/// A link under way beside one that is in doubt: the first to answer stays.
struct Rival {
    link: Link,
    node: RelayNode,
    v6: bool,
    began_at: Instant,
    readable: bool,
}

/// What we are to one region.
#[derive(Default)]
struct Slot {
    link: Option<Link>,
    rival: Option<Rival>,
    /// The node that `link` leads to.
    node: Option<RelayNode>,
    /// The address family of the present attempt.
    v6: bool,
    former: Option<Former>,
    /// The region is in the map no more.
    withdrawn: bool,
    /// Where the next attempts to connect go.
    targets: VecDeque<Target>,
    attempt_at: Option<Instant>,
    /// Since when we try to connect; others are looked at when that takes long.
    trying_since: Option<Instant>,
    slow: bool,
    /// It was connected before: peers wait for us there.
    returning: bool,
    resolving: bool,
    waiting: VecDeque<(Key, Vec<u8>)>,
    failures: u32,
    comeback: Comeback,
    /// What the dearest attempt of the present round cost the relay.
    cost: Cost,
    failed_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// Why WebSocket is used, where it was not asked for from the start.
    websocket: Option<String>,
    /// WebSocket was seen to work.
    websocket_proven: bool,
    error: String,
    readable: bool,
}

impl Slot {
    fn open(&self) -> bool {
        self.link.as_ref().is_some_and(Link::open)
    }
}

/// Connections to relays, and the map that says where they are.
pub struct Relays {
    pub map: DerpMap,
    pub home: u16,
    /// The region that takes over when home is lost; 0 for none.
    pub standby: u16,
    slots: BTreeMap<u16, Slot>,
    /// The open ones that we keep, best first.
    kept_open: Vec<u16>,
    pub whereabouts: Whereabouts,
    dirty: HashSet<u16>,
    pub names: Names,
    hello: Hello,
    force_websockets: bool,
    proxies: Proxies,
    tls: Tls,
    registry: Registry,
    outbox: Arc<Outbox>,
    courier: Courier,
    dropped: u64,
    /// Something happened after which another region may have to be home.
    home_in_doubt: bool,
    /// The home region was lost, and nobody has looked yet whether another one is there.
    home_lost: bool,
    ticked_at: Option<Instant>,
    /// A region was connected again.
    returned: bool,
    /// Packets are to show where we are now, so they take the new link even to peers that were not heard by it.
    showing: bool,
    /// When an address of this family last did not answer where it should have.
    mute: [Option<Instant>; 2],
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
            standby: 0,
            slots: BTreeMap::new(),
            kept_open: Vec::new(),
            whereabouts: Whereabouts::default(),
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
            proxies: config.proxies.clone(),
            tls: Tls::new(config.tls_ca_pem.clone())?,
            registry: registry.try_clone().map_err(|error| format!("no poll: {error}"))?,
            outbox,
            courier,
            dropped: 0,
            home_in_doubt: false,
            home_lost: false,
            ticked_at: None,
            returned: false,
            showing: false,
            mute: [None; 2],
        })
    }

    /// Packets dropped because relays were too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.slots.values().filter_map(|slot| slot.link.as_ref()).map(|link| link.dropped).sum::<u64>()
    }

    /// Whether a relay has more to read right now.
    pub fn busy(&self) -> bool {
        let beside = |slot: &Slot| {
            let former = slot.former.as_ref().is_some_and(|former| former.readable);
            former || slot.rival.as_ref().is_some_and(|rival| rival.readable)
        };
        self.slots.values().any(|slot| slot.readable || beside(slot))
    }

    /// Whether the relay of a region should be given a rest.
    pub fn full(&self, region: u16) -> bool {
        let former_full = |slot: &Slot| slot.former.as_ref().is_some_and(|former| former.link.full());
        let slot_full = |slot: &Slot| slot.link.as_ref().is_some_and(Link::full) || former_full(slot);
        let full = |region: &u16| self.slots.get(region).is_some_and(slot_full);
        match self.reach(region) {
            Reach::Open => full(&region),
            // What is meant for it goes by one of the others.
            Reach::Opening | Reach::Down => self.kept_open.iter().any(full),
        }
    }

    /// Regions where WebSocket had to be used, and why.
    pub fn forced_websocket(&self) -> BTreeMap<u16, String> {
        let forced = |slot: &Slot| slot.websocket.clone().filter(|_| slot.websocket_proven);
        self.slots.iter().filter_map(|(region, slot)| Some((*region, forced(slot)?))).collect()
    }

    /// Why the regions that cannot be connected cannot.
    pub fn problems(&self) -> BTreeMap<u16, String> {
        let failing = self.slots.iter().filter(|(_, slot)| !slot.open() && !slot.error.is_empty());
        failing.map(|(region, slot)| (*region, slot.error.clone())).collect()
    }

    /// Whether there is a relay that we are logged in to.
    pub fn connected(&self) -> bool {
        !self.kept_open.is_empty()
    }

    /// Whether a region was tried and does not work.
    pub fn failing(&self, now: Instant, region: u16) -> bool {
        let Some(slot) = self.slots.get(&region) else { return false };
        let lately = slot.failed_at.is_some_and(|at| now.saturating_duration_since(at) < FAILED);
        !slot.open() && (slot.retry_at.is_some() || slot.failures > 0) && lately
    }

    fn open(&self, region: u16) -> bool {
        self.slots.get(&region).is_some_and(Slot::open)
    }

    fn reach(&self, region: u16) -> Reach {
        match self.slots.get(&region) {
            Some(slot) if slot.open() => Reach::Open,
            Some(slot) if slot.failures > 0 || slot.retry_at.is_some() || slot.withdrawn || slot.slow => Reach::Down,
            _ if self.map.regions.contains_key(&region) => Reach::Opening,
            _ => Reach::Down,
        }
    }

    /// Whether a region is connected all the time.
    fn kept(&self, region: u16) -> bool {
        region == self.home || region == self.standby
    }

    /// Send a packet to a peer by the relay of its home, or by another where it is likely to be.
    pub fn send(&mut self, now: Instant, home: u16, key: &Key, packet: &[u8]) {
        if self.send_by_former(now, home, key, packet) {
            return;
        }
        let way = self.whereabouts.way(now, key, home, &self.kept_open, |region| self.reach(region));
        if way.lost {
            for region in self.whereabouts.wanted(key).to_vec() {
                self.open_region(now, region);
            }
        }
        let region = way.region;
        if let Some(slot) = self.slots.get_mut(&region) {
            if let Some(link) = slot.link.as_mut().filter(|link| link.open()) {
                link.send(now, *key, packet);
                self.dirty.insert(region);
                return;
            }
        }
        if !self.map.regions.contains_key(&region) {
            self.dropped += 1;
            return;
        }
        let slot = self.slots.entry(region).or_default();
        if slot.waiting.len() >= MAX_WAITING {
            slot.waiting.pop_front();
            self.dropped += 1;
        }
        slot.waiting.push_back((*key, packet.to_vec()));
        self.open_region(now, region);
    }

    /// Send to a peer that is likely to be where its region was before the map changed; says whether it is.
    fn send_by_former(&mut self, now: Instant, region: u16, key: &Key, packet: &[u8]) -> bool {
        if self.showing {
            return false;
        }
        let former = self.slots.get_mut(&region).and_then(|slot| slot.former.as_mut());
        let Some(former) = former.filter(|former| former.peers.contains(key)) else { return false };
        former.link.send(now, *key, packet);
        self.dirty.insert(region);
        true
    }

    /// A packet of a peer that we know came by the link of a region.
    pub fn heard(&mut self, key: &Key, region: u16) {
        self.whereabouts.heard(key, region);
        if let Some(former) = self.slots.get_mut(&region).and_then(|slot| slot.former.as_mut()) {
            former.peers.remove(key);
        }
    }

    /// Let what is sent from now on show peers where we are, or not any more.
    pub fn show(&mut self, showing: bool) {
        self.showing = showing;
    }

    /// Connect to a region of the map, unless that is done or was tried a moment ago.
    fn open_region(&mut self, now: Instant, region: u16) {
        if region == 0 || !self.map.regions.contains_key(&region) {
            return;
        }
        let slot = self.slots.entry(region).or_default();
        if slot.link.is_none() && slot.retry_at.is_none() && !slot.resolving {
            self.connect(now, region);
        }
    }

    /// Let what was sent leave.
    pub fn flush(&mut self, now: Instant) {
        for region in std::mem::take(&mut self.dirty) {
            let Some(slot) = self.slots.get_mut(&region) else { continue };
            slot.former.take_if(|former| former.link.flush().is_err());
            if let Some(ended) = slot.link.as_mut().and_then(|link| link.flush().err()) {
                self.lost(now, region, ended);
            }
        }
    }

    /// Use another map; what is connected stays so until its peers can have heard of the change.
    pub fn set_map(&mut self, now: Instant, map: DerpMap) {
        let old = std::mem::replace(&mut self.map, map);
        let regions: Vec<u16> = self.slots.keys().copied().collect();
        for region in regions {
            if old.regions.get(&region) != self.map.regions.get(&region) {
                self.redescribed(now, region);
            }
        }
        if !self.map.relays().any(|region| region == self.standby) {
            self.standby = 0;
        }
        if self.home != 0 && !self.map.relays().any(|region| region == self.home) {
            self.home_in_doubt = true;
        }
        self.note_open();
    }

    /// The map says something else of a region.
    fn redescribed(&mut self, now: Instant, region: u16) {
        let relays: Vec<RelayNode> =
            self.map.regions.get(&region).map(|region| region.relays().cloned().collect()).unwrap_or_default();
        let kept = self.kept(region);
        let Some(slot) = self.slots.get_mut(&region) else { return };
        slot.withdrawn = relays.is_empty();
        slot.targets.clear();
        (slot.failures, slot.failed_at, slot.websocket, slot.websocket_proven) = (0, None, None, false);
        slot.comeback = Comeback::default();
        let same = slot.node.as_ref().is_some_and(|node| relays.iter().any(|relay| relay.same_relay(node)));
        if slot.link.is_some() && same {
            return;
        }
        if slot.withdrawn {
            slot.retry_at = None;
            if !slot.open() {
                self.close(region);
                self.slots.remove(&region);
            }
            return;
        }
        if slot.open() {
            self.make_former(region);
        } else {
            let waiting = std::mem::take(&mut slot.waiting);
            self.close(region);
            self.slots.entry(region).or_default().waiting = waiting;
        }
        let waits = self.slots.get(&region).is_some_and(|slot| !slot.waiting.is_empty() || slot.former.is_some());
        if kept || waits {
            self.open_region(now, region);
        }
    }

    /// Move home, and connect there at once.
    pub fn set_home(&mut self, now: Instant, region: u16) {
        if region == self.home {
            return;
        }
        let old = std::mem::replace(&mut self.home, region);
        if self.standby == region {
            self.standby = 0;
        }
        for (of, home) in [(old, false), (region, true)] {
            if let Some(link) = self.slots.get_mut(&of).and_then(|slot| slot.link.as_mut()) {
                link.set_home(home);
                self.dirty.insert(of);
            }
        }
        self.note_open();
        if self.open(region) {
            self.tell(region, true);
        } else {
            self.open_region(now, region);
        }
    }

    /// Keep another region connected, ready to be home; 0 for none.
    pub fn set_standby(&mut self, now: Instant, region: u16) {
        self.standby = if region == self.home { 0 } else { region };
        self.note_open();
        self.warm_standby(now);
    }

    /// Connect the standby, but not before home: the first packets are in a hurry.
    fn warm_standby(&mut self, now: Instant) {
        if self.reach(self.home) != Reach::Opening {
            self.open_region(now, self.standby);
        }
    }

    fn note_open(&mut self) {
        let kept = [self.home, self.standby];
        self.kept_open = kept.into_iter().filter(|region| self.open(*region)).collect();
        let others = self.slots.iter().filter(|(region, slot)| !kept.contains(region) && slot.open());
        self.kept_open.extend(others.map(|(region, _)| *region));
    }

    fn tell(&self, region: u16, connected: bool) {
        let slot = self.slots.get(&region);
        let websocket_reason = slot.and_then(|slot| slot.websocket.clone()).unwrap_or_default();
        let error = if connected { String::new() } else { slot.map(|slot| slot.error.clone()).unwrap_or_default() };
        let home = region == self.home;
        self.outbox.push(Event::RelayChanged { region, connected, home, websocket_reason, error });
    }

    /// The region that must be home now, if another than the present one: home is down or withdrawn.
    pub fn take_rescue(&mut self) -> Option<u16> {
        if !std::mem::take(&mut self.home_in_doubt) || self.home == 0 {
            return None;
        }
        let in_map = self.map.relays().any(|region| region == self.home);
        if in_map && self.reach(self.home) != Reach::Down {
            return None;
        }
        let relays: Vec<u16> = self.map.relays().collect();
        let link = |region: &u16| self.slots.get(region).and_then(|slot| slot.link.as_ref());
        let sure = |region: &u16| link(region).is_some_and(|link| !link.doubted());
        let mut others =
            self.kept_open.iter().copied().filter(|region| *region != self.home && relays.contains(region));
        let ready = others.find(sure);
        // A home that is only slow to come back stays home until another is ready; one that was withdrawn must go.
        let any =
            || relays.iter().copied().find(|region| self.reach(*region) != Reach::Down).or(relays.first().copied());
        ready.or_else(|| if in_map { None } else { any().or(Some(0)) })
    }

    /// Say once whether the home region was lost and did not come back by itself, where another could take its place.
    pub fn take_home_lost(&mut self) -> bool {
        std::mem::take(&mut self.home_lost) && !self.open(self.home) && self.map.relays().count() > 1
    }

    /// Say once whether a region was connected again, where peers wait for us.
    pub fn take_returned(&mut self) -> bool {
        std::mem::take(&mut self.returned)
    }

    /// The headers that go with every request to a relay.
    pub fn headers(&self) -> &[(String, String)] {
        &self.hello.headers
    }
}
