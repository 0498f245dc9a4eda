//! The path to one peer: what comes in, and which way data goes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::best::Best;
use super::candidates::{CandidateStats, Candidates};
use super::guard::Guard;
use super::history::{explain, milliseconds, Change, History};
use super::pings::Pings;
use super::search::Search;
use super::sizes::{inner_mtu, size_for, Raise, FULL};
use super::{InUse, PathEvent, Refusal, Region, Route, Source, Transmit};
use crate::wire::disco::Message;
use crate::wire::keys::Key;

/// A session nothing was sent in for this long is idle: its path is not kept warm.
const SESSION_ACTIVE: Duration = Duration::from_secs(45);
/// Keeps NATs from forgetting the path in use, and proves it anew.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);
/// A blocked node tells its peers so no more often, unless they call it: the word may have been lost.
const REFUSE_INTERVAL: Duration = Duration::from_secs(30);
/// A peer that calls a blocked node is told no more often.
const REFUSE_CALL_INTERVAL: Duration = Duration::from_secs(1);
/// Why a direct path is in doubt that nobody used.
const UNCONFIRMED: &str = "the direct path was not confirmed lately";

/// Chooses the path to one peer. See the module for how to drive it.
#[derive(Debug)]
pub struct PeerPath {
    pub(super) own_node_key: Key,
    /// The largest datagram that we can make use of, in bytes.
    pub(super) largest: usize,
    pub(super) own_endpoints: Vec<SocketAddr>,
    pub(super) own_endpoints_at: Option<Instant>,
    pub(super) blocked: bool,
    /// The peer called us and named no endpoint: it forbids direct paths, or knows no address of its own.
    pub(super) declined: bool,
    home: Option<Region>,
    /// Where the peer was heard last; used while its home is not known.
    heard_region: Option<Region>,
    pub(super) candidates: Candidates,
    pub(super) best: Option<Best>,
    pub(super) pings: Pings,
    pub(super) guard: Guard,
    pub(super) search: Search,
    /// When to find out the size of an endpoint that answers small pings.
    pub(super) ladders: Vec<(Instant, SocketAddr)>,
    /// When to see whether the path in use carries more by now.
    pub(super) raise: Option<Raise>,
    /// When direct paths were lost of late.
    pub(super) losses: VecDeque<Instant>,
    /// A direct path that keeps failing is not taken again before this.
    pub(super) held_until: Option<Instant>,
    sent_at: Option<Instant>,
    pub(super) heartbeat_at: Option<Instant>,
    pub(super) full_ping_at: Option<Instant>,
    pub(super) called_at: Option<Instant>,
    shown: InUse,
    /// Since the last change of path it was said why the path stays by relay.
    pub(super) settled: bool,
    /// Whether our NAT gives every destination another port.
    pub(super) own_nat_varies: bool,
    history: History,
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<PathEvent>,
}

impl PeerPath {
    /// Make a path that knows nothing. `own_node_key` is put into pings; `seed` must be random.
    pub fn new(own_node_key: Key, seed: u64) -> Self {
        Self {
            own_node_key,
            largest: FULL,
            own_endpoints: Vec::new(),
            own_endpoints_at: None,
            blocked: false,
            declined: false,
            home: None,
            heard_region: None,
            candidates: Candidates::default(),
            best: None,
            pings: Pings::new(seed),
            guard: Guard::new(),
            search: Search::default(),
            ladders: Vec::new(),
            raise: None,
            losses: VecDeque::new(),
            held_until: None,
            sent_at: None,
            heartbeat_at: None,
            full_ping_at: None,
            called_at: None,
            shown: InUse::None,
            settled: false,
            own_nat_varies: false,
            history: History::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Make use of paths that carry packets of up to `inner_mtu` bytes inside the tunnel; at least 1,280.
    pub fn handle_stack_mtu(&mut self, inner_mtu: usize) {
        self.largest = size_for(inner_mtu).max(FULL);
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

    /// Say how large a packet inside the tunnel may be, in bytes; larger ones must be cut.
    pub fn inner_mtu(&self) -> usize {
        inner_mtu(self.best.as_ref().map_or(FULL, |best| best.size))
    }

    /// Describe the endpoints tried.
    pub fn candidates(&self, now: Instant) -> Vec<CandidateStats> {
        let best = self.best.as_ref().map(|best| (best.measured, best.certain(now)));
        let mut stats = self.candidates.stats(now);
        stats.iter_mut().for_each(|candidate| candidate.reason = explain(candidate, best));
        stats
    }

    /// List the last changes of path, the oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.history.changes()
    }

    /// Say in a sentence why data goes the way it goes. Made when asked for, so that it is true at that moment.
    pub fn reason(&self, now: Instant) -> String {
        let last = self.history.changes().next_back();
        let said = last.filter(|change| matches!(change.path, InUse::Direct { .. }) == self.certain(now));
        match (&self.best, self.region()) {
            (None, Some(_)) => self.why_not_direct(now),
            (None, None) => format!("no relay of the peer is known, and {}", self.why_not_direct(now)),
            (Some(best), _) if best.doubted(now) => doubt(best),
            (Some(best), _) => said.map_or_else(|| unsaid(best, now), |change| change.reason.clone()),
        }
    }

    /// Set the peer's home region; `None` when it has none.
    pub fn handle_home(&mut self, now: Instant, region: Option<Region>) {
        self.home = region;
        let reason = self.why_not_direct(now);
        self.show(now, || reason);
    }

    /// Replace the endpoints that the peer published.
    pub fn handle_endpoints(&mut self, now: Instant, endpoints: &[SocketAddr]) {
        if self.blocked {
            return;
        }
        self.candidates.publish(now, endpoints);
        self.drop_withdrawn_best(now);
        if self.active(now) && !self.certain(now) {
            self.probe(now, true);
            self.call(now);
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

    /// Set whether our NAT gives every destination another port, as far as that was found out.
    pub fn handle_own_nat(&mut self, varies: bool) {
        self.own_nat_varies = varies;
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
        self.leave_best();
        self.search.stop();
        self.pings.forget_direct();
        // The peer forgets what we told it earlier.
        self.send_call(now, Vec::new());
        let reason = self.why_not_direct(now);
        self.show(now, || reason);
    }

    /// The network under us changed, or time was lost (`why` says which): no path is certain until it is proven again.
    pub fn handle_rebind(&mut self, now: Instant, why: &str) {
        if let Some(best) = &mut self.best {
            best.distrust(now);
        }
        self.candidates.forget_pings();
        self.candidates.forget_sizes();
        self.called_at = None;
        self.own_endpoints_at = None;
        if self.active(now) {
            self.seek(now, self.best.is_some());
        }
        self.show(now, || why.into());
    }

    /// Data wants to leave: says where to, keeps the path warm and looks for a better one. Cheap when there is nothing
    /// to do; call it once for each packet.
    pub fn handle_send(&mut self, now: Instant) -> Route {
        self.sent_at = Some(now);
        if self.heartbeat_at.is_none() {
            self.heartbeat_at = Some(now + HEARTBEAT);
        }
        let region = self.region();
        let mut route = self.route(now);
        let mut prove = false;
        if let Some(best) = &mut self.best {
            prove = best.note_sent(now);
            if route.relay.is_none() && best.hedge(now) {
                route.relay = region;
            }
        }
        if prove {
            self.ask(now);
        }
        if !self.search.running() && self.best.as_ref().is_none_or(|best| !best.trusted(now)) {
            self.seek(now, false);
        }
        route
    }

    /// Data of the peer (authenticated) arrived from `from`.
    pub fn handle_receive(&mut self, now: Instant, from: Source) {
        match from {
            Source::Udp(endpoint) => {
                if let Some(best) = self.best.as_mut().filter(|best| best.measured.endpoint == endpoint) {
                    let doubted = best.doubted(now);
                    best.note_heard(now);
                    if best.take_resumed() {
                        self.ask_sizes(now);
                    }
                    if doubted {
                        self.show(now, || format!("{endpoint} is heard again"));
                    }
                } else if self.best.as_mut().is_some_and(|best| best.note_bypassed(now)) {
                    // Its address may be another by now.
                    self.ask(now);
                    self.send_ping(now, from, FULL, Vec::new());
                }
            }
            Source::Relay { region } => {
                if self.heard_region != Some(region) {
                    self.heard_region = Some(region);
                    let reason = self.why_not_direct(now);
                    self.show(now, || reason);
                }
                if self.best.as_mut().is_some_and(|best| best.note_bypassed(now)) {
                    self.ask(now);
                }
            }
        }
    }

    /// Take a disco message that opened with this peer's key; `length` is that of its packet.
    pub fn handle_disco(&mut self, now: Instant, from: Source, message: &Message, length: usize) {
        if let (true, Source::Udp(_)) = (self.blocked, from) {
            return;
        }
        match message {
            Message::Ping { txid, .. } => self.on_ping(now, from, *txid, length),
            Message::Pong { txid, .. } => self.on_pong(now, *txid, length),
            Message::CallMeMaybe { endpoints } => match (self.blocked, from) {
                (false, Source::Relay { .. }) => self.on_call(now, endpoints),
                // A call without endpoints is a refusal itself: two that refuse have nothing more to say.
                (true, Source::Relay { .. }) if !endpoints.is_empty() => self.refuse(now, REFUSE_CALL_INTERVAL),
                _ => {}
            },
        }
    }

    /// A person asks how far the peer is; the first pong brings `PathEvent::Pong` with `token`.
    pub fn handle_ping_request(&mut self, now: Instant, token: u64) {
        self.ping_for(now, token);
    }

    /// The kernel would not let a datagram to `endpoint` leave. Says whether that concerns this peer.
    pub fn handle_refused(&mut self, now: Instant, endpoint: SocketAddr, refusal: Refusal) -> bool {
        if !self.candidates.contains(endpoint) {
            return false;
        }
        match refusal {
            Refusal::TooLarge { size } => self.on_too_large(now, endpoint, size),
            Refusal::Error { code } => self.candidates.refused(endpoint, code),
        }
        true
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.expire_pings(now) {
            self.settle(now);
        }
        self.watch_best(now);
        self.climb_ladders(now);
        self.raise_size(now);
        self.search_on(now);
        if self.heartbeat_at.is_some_and(|at| at <= now) {
            self.heartbeat(now);
        }
        self.show(now, || UNCONFIRMED.into());
    }

    /// Say when `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let best = self.best.as_ref().and_then(Best::deadline);
        // While shown as direct, the moment that stops being true is news.
        let doubt = match (&self.best, self.shown) {
            (Some(best), InUse::Direct { .. }) => Some(best.certain_until()),
            _ => None,
        };
        let ladder = self.ladders.iter().map(|(at, _)| *at).min();
        let raise = self.raise.map(|raise| raise.at);
        let timers = [self.pings.expiry(), best, doubt, ladder, raise, self.search.next_at(), self.heartbeat_at];
        timers.into_iter().flatten().min()
    }

    /// Take the next message to seal and send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Take the next event.
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        self.events.pop_front()
    }

    /// Revert to the relay when the endpoint in use is a candidate no more, unless it still proves itself.
    pub(super) fn drop_withdrawn_best(&mut self, now: Instant) {
        let withdrawn = |best: &Best| !self.candidates.contains(best.measured.endpoint) && !best.certain(now);
        if self.best.as_ref().is_some_and(withdrawn) {
            self.leave_best();
            self.show(now, || "the peer left that endpoint".into());
        }
    }

    /// Use no direct endpoint any more.
    pub(super) fn leave_best(&mut self) {
        self.best = None;
        self.raise = None;
        self.ladders.clear();
    }

    /// Report the path in use when it is another than last reported.
    pub(super) fn show(&mut self, now: Instant, reason: impl FnOnce() -> String) {
        let path = self.in_use(now);
        let same = match (path, self.shown) {
            (InUse::Direct { endpoint, .. }, InUse::Direct { endpoint: shown, .. }) => endpoint == shown,
            (path, shown) => path == shown,
        };
        self.shown = path;
        if !same {
            self.settled = false;
            let reason = reason();
            self.history.add(Change { at: now, path, reason: reason.clone() });
            self.events.push_back(PathEvent::Changed { path, reason });
        }
    }

    /// Tell once, after a change of path, why it stays by relay: all that was asked stayed silent.
    fn settle(&mut self, now: Instant) {
        let open = !self.settled && !self.blocked && self.best.is_none() && self.region().is_some();
        if open && self.candidates.all_failed() {
            self.settled = true;
            let reason = self.why_not_direct(now);
            self.note(now, reason.clone());
            self.events.push_back(PathEvent::Settled { path: self.shown, reason });
        }
    }

    /// Remember something about the path in use that does not change which it is.
    pub(super) fn note(&mut self, now: Instant, reason: String) {
        self.history.add(Change { at: now, path: self.shown, reason });
    }

    pub(super) fn region(&self) -> Option<Region> {
        self.home.or(self.heard_region)
    }

    pub(super) fn active(&self, now: Instant) -> bool {
        self.sent_at.is_some_and(|at| now.saturating_duration_since(at) <= SESSION_ACTIVE)
    }

    pub(super) fn certain(&self, now: Instant) -> bool {
        self.best.as_ref().is_some_and(|best| best.certain(now))
    }

    /// Tell the peer that there will be no direct path, unless that was said within `interval`.
    fn refuse(&mut self, now: Instant, interval: Duration) {
        if self.called_at.is_none_or(|at| now.saturating_duration_since(at) >= interval) {
            self.send_call(now, Vec::new());
        }
    }

    /// Look for a direct path from now on. A node that may not tells the peer so.
    pub(super) fn seek(&mut self, now: Instant, lost: bool) {
        if self.blocked {
            self.refuse(now, REFUSE_INTERVAL);
            return;
        }
        self.search.begin(now, lost);
        self.probe(now, true);
        self.call(now);
    }
}

/// Why a path is in doubt.
pub(super) fn doubt(best: &Best) -> String {
    let endpoint = best.measured.endpoint;
    match best.loses_large() {
        true => format!("{endpoint} answers, but packets of {} bytes get lost", inner_mtu(best.size)),
        false => format!("{endpoint} does not answer"),
    }
}

/// Why the path is what it is when that was just found out and not told yet.
fn unsaid(best: &Best, now: Instant) -> String {
    match best.certain(now) {
        true => format!("{} answered in {}", best.measured.endpoint, milliseconds(best.measured.latency)),
        false => UNCONFIRMED.into(),
    }
}
