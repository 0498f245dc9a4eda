//! The path to one peer.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::best::{Best, Remedy};
use super::candidates::{is_usable, CandidateStats, Candidates, Heard};
use super::compare::{better, Measured};
use super::{InUse, PathEvent, Region, Route, Source, Transmit};
use crate::wire::disco::{Message, TxId};
use crate::wire::keys::Key;

/// A session nothing was sent in for this long is idle: its path is not kept warm.
const SESSION_ACTIVE: Duration = Duration::from_secs(45);
/// Keeps NATs from forgetting the path in use, and proves it anew.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often a good path is compared with all the others.
const UPGRADE_INTERVAL: Duration = Duration::from_secs(60);
/// Below this nothing better is looked for.
const GOOD_ENOUGH: Duration = Duration::from_millis(5);
/// A pong that takes longer is as good as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer is asked to ping us no more often.
const CALL_INTERVAL: Duration = Duration::from_secs(5);
/// Endpoints measured longer ago than this are measured again when a peer needs them.
const ENDPOINTS_FRESH: Duration = Duration::from_secs(27);

/// The pseudo address that a pong by relay says it saw us at; its port is the region.
const RELAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 3, 3, 40);

#[derive(Debug)]
struct SentPing {
    to: Source,
    at: Instant,
    tokens: Vec<u64>,
}

/// Chooses the path to one peer. See the module for how to drive it.
#[derive(Debug)]
pub struct PeerPath {
    own_node_key: Key,
    own_endpoints: Vec<SocketAddr>,
    own_endpoints_at: Option<Instant>,
    blocked: bool,
    home: Option<Region>,
    /// Where the peer was heard last; used while its home is not known.
    heard_region: Option<Region>,
    candidates: Candidates,
    best: Option<Best>,
    pings: HashMap<TxId, SentPing>,
    txid_state: u64,
    sent_at: Option<Instant>,
    heartbeat_at: Option<Instant>,
    full_ping_at: Option<Instant>,
    called_at: Option<Instant>,
    shown: InUse,
    transmits: VecDeque<Transmit>,
    events: VecDeque<PathEvent>,
}

impl PeerPath {
    /// Make a path that knows nothing. `own_node_key` is put into pings; `seed` must be random.
    pub fn new(own_node_key: Key, seed: u64) -> Self {
        Self {
            own_node_key,
            own_endpoints: Vec::new(),
            own_endpoints_at: None,
            blocked: false,
            home: None,
            heard_region: None,
            candidates: Candidates::default(),
            best: None,
            pings: HashMap::new(),
            txid_state: seed,
            sent_at: None,
            heartbeat_at: None,
            full_ping_at: None,
            called_at: None,
            shown: InUse::None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Say where data goes now.
    pub fn route(&self, now: Instant) -> Route {
        let relay = self.region();
        match &self.best {
            Some(best) if best.certain(now) => Route { direct: Some(best.measured.endpoint), relay: None },
            Some(best) => Route { direct: Some(best.measured.endpoint), relay },
            None => Route { direct: None, relay },
        }
    }

    /// Say which path people are told about.
    pub fn in_use(&self, now: Instant) -> InUse {
        match (&self.best, self.region()) {
            (Some(best), _) if best.certain(now) => {
                InUse::Direct { endpoint: best.measured.endpoint, latency: best.measured.latency }
            }
            (_, Some(region)) => InUse::Relayed { region },
            (_, None) => InUse::None,
        }
    }

    /// Describe the endpoints tried.
    pub fn candidates(&self) -> Vec<CandidateStats> {
        self.candidates.stats()
    }

    /// Set the peer's home region; `None` when it has none.
    pub fn handle_home(&mut self, now: Instant, region: Option<Region>) {
        self.home = region;
        let reason = self.why_not_direct();
        self.show(now, || reason.into());
    }

    /// Replace the endpoints that the peer published.
    pub fn handle_endpoints(&mut self, now: Instant, endpoints: &[SocketAddr]) {
        if self.blocked {
            return;
        }
        self.candidates.publish(now, endpoints);
        self.drop_withdrawn_best(now);
        if self.active(now) && !self.certain(now) {
            self.full_ping(now, true);
        }
    }

    /// Replace our own endpoints, as peers should know them.
    pub fn handle_own_endpoints(&mut self, now: Instant, endpoints: &[SocketAddr]) {
        let changed = self.own_endpoints != endpoints;
        self.own_endpoints = endpoints.to_vec();
        self.own_endpoints_at = Some(now);
        if changed && self.active(now) && !self.certain(now) {
            self.called_at = None;
            self.call(now);
        }
    }

    /// Forbid or allow direct paths from now on.
    pub fn handle_block_direct(&mut self, now: Instant, blocked: bool) {
        if self.blocked == blocked {
            return;
        }
        self.blocked = blocked;
        if !blocked {
            return;
        }
        self.candidates.clear();
        self.best = None;
        self.pings.retain(|_, ping| matches!(ping.to, Source::Relay { .. }));
        // The peer forgets what we told it earlier.
        self.send_call(now, Vec::new());
        self.show(now, || "direct paths are blocked".into());
    }

    /// The network under us changed: no path is certain until it is proven again.
    pub fn handle_rebind(&mut self, now: Instant) {
        if let Some(best) = &mut self.best {
            best.distrust(now);
        }
        self.candidates.forget_pings();
        self.called_at = None;
        self.own_endpoints_at = None;
        if self.active(now) {
            self.full_ping(now, true);
        }
        self.show(now, || "the network changed".into());
    }

    /// Data wants to leave: keep the path warm and look for a better one. Cheap when there is nothing to do.
    pub fn handle_send(&mut self, now: Instant) {
        self.sent_at = Some(now);
        if self.heartbeat_at.is_none() {
            self.heartbeat_at = Some(now + HEARTBEAT);
        }
        match &mut self.best {
            Some(best) if best.trusted(now) => best.note_sent(now),
            _ => self.full_ping(now, true),
        }
    }

    /// Data of the peer (authenticated) arrived from `from`.
    pub fn handle_receive(&mut self, now: Instant, from: Source) {
        match from {
            Source::Udp(endpoint) => {
                let doubted = self.best.as_ref().is_some_and(|best| best.doubted(now));
                if let Some(best) = self.best.as_mut().filter(|best| best.measured.endpoint == endpoint) {
                    best.note_heard();
                    if doubted {
                        self.show(now, || format!("{endpoint} is heard again"));
                    }
                }
            }
            Source::Relay { region } => {
                if self.heard_region != Some(region) {
                    self.heard_region = Some(region);
                    let reason = self.why_not_direct();
                    self.show(now, || reason.into());
                }
            }
        }
    }

    /// Take a disco message that opened with this peer's key.
    pub fn handle_disco(&mut self, now: Instant, from: Source, message: &Message) {
        if let (true, Source::Udp(_)) = (self.blocked, from) {
            return;
        }
        match message {
            Message::Ping { txid, .. } => self.on_ping(now, from, *txid),
            Message::Pong { txid, .. } => self.on_pong(now, *txid),
            Message::CallMeMaybe { endpoints } => {
                if let (false, Source::Relay { .. }) = (self.blocked, from) {
                    self.candidates.call_me_maybe(now, endpoints);
                    self.drop_withdrawn_best(now);
                    self.full_ping(now, false);
                }
            }
        }
    }

    /// A person asks how far the peer is; the first pong brings `PathEvent::Pong` with `token`.
    pub fn handle_ping_request(&mut self, now: Instant, token: u64) {
        let route = self.route(now);
        if let Some(region) = route.relay {
            self.send_ping(now, Source::Relay { region }, vec![token]);
        }
        if self.blocked {
            return;
        }
        match &self.best {
            Some(best) if best.certain(now) => {
                let to = Source::Udp(best.measured.endpoint);
                self.send_ping(now, to, vec![token]);
            }
            _ => {
                let endpoints: Vec<_> = self.candidates.endpoints().collect();
                endpoints.into_iter().for_each(|endpoint| self.send_ping(now, Source::Udp(endpoint), vec![token]));
                self.call(now);
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_pings(now);
        self.watch_silence(now);
        if self.heartbeat_at.is_some_and(|at| at <= now) {
            self.heartbeat(now);
        }
        self.show(now, || "the direct path was not confirmed lately".into());
    }

    /// Say when `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest_ping = self.pings.values().map(|ping| ping.at + PING_TIMEOUT).min();
        let silence = self.best.as_ref().and_then(Best::silence_deadline);
        // While shown as direct, the moment that stops being true is news.
        let doubt = match (&self.best, self.shown) {
            (Some(best), InUse::Direct { .. }) => Some(best.certain_until()),
            _ => None,
        };
        [oldest_ping, silence, doubt, self.heartbeat_at].into_iter().flatten().min()
    }

    /// Take the next message to seal and send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Take the next event.
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        self.events.pop_front()
    }

    fn on_ping(&mut self, now: Instant, from: Source, txid: TxId) {
        let observed = match from {
            Source::Udp(endpoint) => endpoint,
            Source::Relay { region } => SocketAddr::from((RELAY_ADDRESS, region)),
        };
        let mut heard = Heard::Known;
        if let Source::Udp(endpoint) = from {
            if !is_usable(endpoint) {
                return;
            }
            heard = self.candidates.heard(now, endpoint, txid);
        }
        if heard == Heard::Duplicate {
            return;
        }
        self.transmits.push_back(Transmit { to: from, message: Message::Pong { txid, observed } });
        if let (Heard::New, Source::Udp(_), false) = (heard, from, self.certain(now)) {
            // The peer's NAT lets us in right now; at the next heartbeat it may not.
            self.send_ping(now, from, Vec::new());
        }
    }

    fn on_pong(&mut self, now: Instant, txid: TxId) {
        let Some(ping) = self.pings.remove(&txid) else { return };
        let latency = now.saturating_duration_since(ping.at);
        for token in &ping.tokens {
            self.pings.values_mut().for_each(|other| other.tokens.retain(|candidate| candidate != token));
            self.events.push_back(PathEvent::Pong { token: *token, latency, via: ping.to });
        }
        // What was proven is the endpoint that we pinged, wherever the pong came from.
        let Source::Udp(endpoint) = ping.to else { return };
        let known = self.candidates.answered(now, endpoint, latency);
        self.prove(now, Measured { endpoint, latency }, known);
    }

    fn prove(&mut self, now: Instant, measured: Measured, known: bool) {
        let proven = Best::proven(now, measured);
        let endpoint = measured.endpoint;
        match &self.best {
            Some(best) if best.measured.endpoint == endpoint => {
                self.best = Some(proven);
                self.show(now, || format!("{endpoint} answered again"));
            }
            _ if !known => {}
            Some(best) if best.certain(now) && !better(measured, best.measured) => {}
            Some(best) => {
                let old = best.measured;
                let reason = move || {
                    let (was, is) = (old.latency.as_secs_f64() * 1e3, measured.latency.as_secs_f64() * 1e3);
                    format!("{endpoint} ({is:.1} ms) is better than {} ({was:.1} ms)", old.endpoint)
                };
                self.best = Some(proven);
                self.show(now, reason);
            }
            None => {
                self.best = Some(proven);
                self.show(now, || format!("{endpoint} answered"));
            }
        }
    }

    fn heartbeat(&mut self, now: Instant) {
        if !self.active(now) {
            self.heartbeat_at = None;
            return;
        }
        self.heartbeat_at = Some(now + HEARTBEAT);
        self.candidates.prune(now);
        if let Some(endpoint) = self.best.as_ref().map(|best| best.measured.endpoint) {
            self.send_ping(now, Source::Udp(endpoint), Vec::new());
        }
        if self.wants_full_ping(now) {
            self.full_ping(now, true);
        }
    }

    fn wants_full_ping(&self, now: Instant) -> bool {
        let Some(best) = &self.best else { return true };
        let Some(last) = self.full_ping_at else { return true };
        let upgrade_due = now.saturating_duration_since(last) >= UPGRADE_INTERVAL;
        !best.certain(now) || (best.measured.latency > GOOD_ENOUGH && upgrade_due)
    }

    /// Ping every candidate that is due; ask the peer to do the same.
    fn full_ping(&mut self, now: Instant, call: bool) {
        if self.blocked {
            return;
        }
        self.full_ping_at = Some(now);
        for endpoint in self.candidates.due(now) {
            self.send_ping(now, Source::Udp(endpoint), Vec::new());
        }
        if call {
            self.call(now);
        }
    }

    /// Tell the peer where we may be pinged, by its relay. Unlike upstream's nodes we do so even when we know no
    /// endpoint of the peer: it may know ours.
    fn call(&mut self, now: Instant) {
        if self.blocked || self.region().is_none() {
            return;
        }
        if self.called_at.is_some_and(|at| now.saturating_duration_since(at) < CALL_INTERVAL) {
            return;
        }
        if self.own_endpoints_at.is_none_or(|at| now.saturating_duration_since(at) >= ENDPOINTS_FRESH) {
            self.events.push_back(PathEvent::EndpointsWanted);
        }
        if !self.own_endpoints.is_empty() {
            self.send_call(now, self.own_endpoints.clone());
        }
        self.called_at = Some(now);
    }

    fn send_call(&mut self, now: Instant, endpoints: Vec<SocketAddr>) {
        let Some(region) = self.region() else { return };
        self.called_at = Some(now);
        let message = Message::CallMeMaybe { endpoints };
        self.transmits.push_back(Transmit { to: Source::Relay { region }, message });
    }

    fn send_ping(&mut self, now: Instant, to: Source, tokens: Vec<u64>) {
        let txid = self.next_txid();
        if let Source::Udp(endpoint) = to {
            self.candidates.pinged(now, endpoint);
            if let Some(best) = self.best.as_mut().filter(|best| best.measured.endpoint == endpoint) {
                best.note_asked(now);
            }
        }
        self.pings.insert(txid, SentPing { to, at: now, tokens });
        let message = Message::Ping { txid, node_key: Some(self.own_node_key) };
        self.transmits.push_back(Transmit { to, message });
    }

    fn expire_pings(&mut self, now: Instant) {
        let expired = |ping: &SentPing| now.saturating_duration_since(ping.at) >= PING_TIMEOUT;
        for ping in self.pings.values().filter(|ping| expired(ping)) {
            if let Source::Udp(endpoint) = ping.to {
                self.candidates.unanswered(endpoint);
            }
        }
        self.pings.retain(|_, ping| !expired(ping));
    }

    fn watch_silence(&mut self, now: Instant) {
        let Some(best) = &self.best else { return };
        let endpoint = best.measured.endpoint;
        match best.check_silence(now) {
            Remedy::Wait => {}
            Remedy::Ask => self.send_ping(now, Source::Udp(endpoint), Vec::new()),
            Remedy::GiveUp => {
                self.best = None;
                self.candidates.unanswered(endpoint);
                self.candidates.forget_pings();
                self.called_at = None;
                self.show(now, || format!("{endpoint} fell silent"));
                self.full_ping(now, true);
            }
        }
        self.show(now, || format!("{endpoint} does not answer"));
    }

    /// Revert to the relay when the endpoint in use is a candidate no more, unless it still proves itself.
    fn drop_withdrawn_best(&mut self, now: Instant) {
        let withdrawn = |best: &Best| !self.candidates.contains(best.measured.endpoint) && !best.certain(now);
        if self.best.as_ref().is_some_and(withdrawn) {
            self.best = None;
            self.show(now, || "the peer left that endpoint".into());
        }
    }

    /// Report the path in use when it is another than last reported.
    fn show(&mut self, now: Instant, reason: impl FnOnce() -> String) {
        let path = self.in_use(now);
        let same = match (path, self.shown) {
            (InUse::Direct { endpoint, .. }, InUse::Direct { endpoint: shown, .. }) => endpoint == shown,
            (path, shown) => path == shown,
        };
        self.shown = path;
        if !same {
            self.events.push_back(PathEvent::Changed { path, reason: reason() });
        }
    }

    fn why_not_direct(&self) -> &'static str {
        if self.blocked {
            "direct paths are blocked"
        } else if self.candidates.is_empty() {
            "no endpoint of the peer is known yet"
        } else {
            "no endpoint of the peer has answered yet"
        }
    }

    fn region(&self) -> Option<Region> {
        self.home.or(self.heard_region)
    }

    fn active(&self, now: Instant) -> bool {
        self.sent_at.is_some_and(|at| now.saturating_duration_since(at) <= SESSION_ACTIVE)
    }

    fn certain(&self, now: Instant) -> bool {
        self.best.as_ref().is_some_and(|best| best.certain(now))
    }

    /// SplitMix64, twice. A ping need only be unlike the others: its pong is authenticated.
    fn next_txid(&mut self) -> TxId {
        let mut txid = [0; 12];
        txid[..8].copy_from_slice(&self.next_random().to_be_bytes());
        txid[8..].copy_from_slice(&self.next_random().to_be_bytes()[..4]);
        txid
    }

    fn next_random(&mut self) -> u64 {
        self.txid_state = self.txid_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.txid_state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
