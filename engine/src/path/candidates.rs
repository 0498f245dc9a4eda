//! The endpoints at which a peer may be reached, and what became of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::sizes::{FULL, SMALL};

/// More than this and those that answer least recently are forgotten.
const MAX_CANDIDATES: usize = 64;
/// A peer that pings us from somewhere does so every few seconds while it cares.
const UNASKED_LIFETIME: Duration = Duration::from_secs(45);
/// The peer pings us from where we know it more often than this while it looks for us.
const HEARD_LATELY: Duration = Duration::from_secs(5);
/// A second ping to one endpoint any sooner would be noise.
const PING_INTERVAL: Duration = Duration::from_millis(200);

/// What is known of one endpoint, for statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateStats {
    pub endpoint: SocketAddr,
    /// How we learnt of it: "published", "call-me-maybe" or "ping".
    pub source: &'static str,
    pub state: CandidateState,
    pub latency: Option<Duration>,
    pub pings_sent: u32,
    pub pongs_received: u32,
    /// How long ago the last ping left and the last pong came.
    pub ping_age: Option<Duration>,
    pub pong_age: Option<Duration>,
    /// The largest datagram that it was seen to carry, in bytes; 0 when only small pings were answered, or none.
    pub size: usize,
    /// Why the last datagram to it could not leave, as the kernel says.
    pub error: Option<String>,
    /// What became of it and why it is not used, as a sentence.
    pub reason: String,
}

/// How far the proof of an endpoint has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateState {
    Untried,
    Sent,
    Answered,
    Failed,
}

impl CandidateState {
    /// Name it as statistics do.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Default)]
struct Candidate {
    published: bool,
    call_me_maybe: bool,
    /// When the peer pinged us from here.
    heard: Option<Instant>,
    pinged_at: Option<Instant>,
    answered_at: Option<Instant>,
    latency: Option<Duration>,
    unanswered: u32,
    pings_sent: u32,
    pongs_received: u32,
    size: usize,
    /// When a ping of that size was answered last.
    sized_at: Option<Instant>,
    error: Option<i32>,
}

impl Candidate {
    fn wanted(&self, now: Instant) -> bool {
        let heard_lately = self.heard.is_some_and(|at| now.saturating_duration_since(at) < UNASKED_LIFETIME);
        self.published || self.call_me_maybe || heard_lately
    }

    fn due(&self, now: Instant) -> bool {
        self.pinged_at.is_none_or(|at| now.saturating_duration_since(at) >= PING_INTERVAL)
    }

    fn state(&self) -> CandidateState {
        match (self.pings_sent, self.unanswered, self.latency) {
            (0, _, _) => CandidateState::Untried,
            (_, 0, Some(_)) => CandidateState::Answered,
            (_, 0, None) => CandidateState::Sent,
            _ => CandidateState::Failed,
        }
    }

    fn source(&self) -> &'static str {
        match (self.published, self.call_me_maybe) {
            (true, _) => "published",
            (false, true) => "call-me-maybe",
            (false, false) => "ping",
        }
    }

    fn describe(&self, now: Instant, endpoint: SocketAddr) -> CandidateStats {
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        CandidateStats {
            endpoint,
            source: self.source(),
            state: self.state(),
            latency: self.latency,
            pings_sent: self.pings_sent,
            pongs_received: self.pongs_received,
            ping_age: age(self.pinged_at),
            pong_age: age(self.answered_at),
            size: self.size,
            error: self.error.map(|code| std::io::Error::from_raw_os_error(code).to_string()),
            reason: String::new(),
        }
    }
}

/// All candidates of one peer.
#[derive(Debug, Default)]
pub struct Candidates {
    by_endpoint: BTreeMap<SocketAddr, Candidate>,
}

impl Candidates {
    /// Replace what the peer published.
    pub fn publish(&mut self, now: Instant, endpoints: &[SocketAddr]) {
        self.by_endpoint.values_mut().for_each(|candidate| candidate.published = false);
        for endpoint in usable(endpoints) {
            self.by_endpoint.entry(endpoint).or_default().published = true;
        }
        self.prune(now);
    }

    /// Replace what the peer asked us to ping, and forget when those were pinged last.
    pub fn call_me_maybe(&mut self, now: Instant, endpoints: &[SocketAddr]) {
        self.by_endpoint.values_mut().for_each(|candidate| candidate.call_me_maybe = false);
        for endpoint in usable(endpoints) {
            self.by_endpoint.entry(endpoint).or_default().call_me_maybe = true;
        }
        self.prune(now);
        self.forget_pings();
    }

    /// Note that the peer pinged us from `endpoint`; says whether that is news.
    pub fn heard(&mut self, now: Instant, endpoint: SocketAddr) -> bool {
        let candidate = self.by_endpoint.entry(endpoint).or_default();
        let heard_lately = |at: Instant| now.saturating_duration_since(at) < HEARD_LATELY;
        let known = candidate.heard.is_some_and(heard_lately);
        candidate.heard = Some(now);
        self.prune(now);
        !known
    }

    /// List those not pinged a moment ago, and what each was seen to carry.
    pub fn due(&self, now: Instant) -> Vec<(SocketAddr, usize)> {
        let due = self.by_endpoint.iter().filter(|(_, candidate)| candidate.due(now));
        due.map(|(endpoint, candidate)| (*endpoint, candidate.size)).collect()
    }

    /// Note a ping on its way.
    pub fn pinged(&mut self, now: Instant, endpoint: SocketAddr) {
        if let Some(candidate) = self.by_endpoint.get_mut(&endpoint) {
            candidate.pinged_at = Some(now);
            candidate.pings_sent = candidate.pings_sent.saturating_add(1);
            candidate.error = None;
        }
    }

    /// Note that a datagram could not leave for it; the kernel's `code` says why.
    pub fn refused(&mut self, endpoint: SocketAddr, code: i32) {
        if let Some(candidate) = self.by_endpoint.get_mut(&endpoint) {
            candidate.error = Some(code);
        }
    }

    /// Note a pong to a ping of `size` bytes; says whether the endpoint is (still) a candidate.
    pub fn answered(&mut self, now: Instant, endpoint: SocketAddr, latency: Duration, size: usize) -> bool {
        let Some(candidate) = self.by_endpoint.get_mut(&endpoint) else {
            return false;
        };
        candidate.answered_at = Some(now);
        candidate.latency = Some(latency);
        candidate.unanswered = 0;
        candidate.pongs_received = candidate.pongs_received.saturating_add(1);
        if size > SMALL {
            candidate.size = candidate.size.max(size);
            candidate.sized_at = Some(now).filter(|_| candidate.size == size).or(candidate.sized_at);
        }
        true
    }

    /// Forget what it was seen to carry: the way there is another, or lost large packets.
    pub fn forget_size(&mut self, endpoint: SocketAddr) {
        if let Some(candidate) = self.by_endpoint.get_mut(&endpoint) {
            candidate.size = 0;
        }
    }

    /// Forget that of all.
    pub fn forget_sizes(&mut self) {
        self.by_endpoint.values_mut().for_each(|candidate| candidate.size = 0);
    }

    /// Say whether it is a candidate of which it is open what it carries now: a full ping was not answered `lately`.
    pub fn size_open(&self, now: Instant, endpoint: SocketAddr, lately: Duration) -> bool {
        let settled = |candidate: &Candidate| {
            let fresh = candidate.sized_at.is_some_and(|at| now.saturating_duration_since(at) < lately);
            candidate.size >= FULL && fresh
        };
        self.by_endpoint.get(&endpoint).is_some_and(|candidate| !settled(candidate))
    }

    /// Note that a ping sent at `at` found no answer; one that was answered since is forgiven.
    pub fn unanswered(&mut self, endpoint: SocketAddr, at: Instant) {
        let candidate = self.by_endpoint.get_mut(&endpoint);
        if let Some(candidate) =
            candidate.filter(|candidate| candidate.answered_at.is_none_or(|answered| answered < at))
        {
            candidate.unanswered = candidate.unanswered.saturating_add(1);
        }
    }

    /// Make every candidate due for a ping.
    pub fn forget_pings(&mut self) {
        self.by_endpoint.values_mut().for_each(|candidate| candidate.pinged_at = None);
    }

    /// Drop those that nothing speaks for any more.
    pub fn prune(&mut self, now: Instant) {
        self.by_endpoint.retain(|_, candidate| candidate.wanted(now));
        // What the peer says of itself goes before where something with its key was heard.
        while self.by_endpoint.len() > MAX_CANDIDATES {
            let oldest = self
                .by_endpoint
                .iter()
                .min_by_key(|(_, candidate)| (candidate.answered_at, candidate.published || candidate.call_me_maybe));
            let Some(endpoint) = oldest.map(|(endpoint, _)| *endpoint) else { return };
            self.by_endpoint.remove(&endpoint);
        }
    }

    /// Forget all.
    pub fn clear(&mut self) {
        self.by_endpoint.clear();
    }

    /// List all endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.by_endpoint.keys().copied()
    }

    /// Say whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }

    /// Say whether there are some, and none of them answers.
    pub fn all_failed(&self) -> bool {
        let failed = |candidate: &Candidate| candidate.state() == CandidateState::Failed;
        !self.is_empty() && self.by_endpoint.values().all(failed)
    }

    /// Say whether `endpoint` is one.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.by_endpoint.contains_key(&endpoint)
    }

    /// Describe each, for statistics.
    pub fn stats(&self, now: Instant) -> Vec<CandidateStats> {
        self.by_endpoint.iter().map(|(endpoint, candidate)| candidate.describe(now, *endpoint)).collect()
    }
}

/// Leave out what cannot be another machine's endpoint on the underlying network.
fn usable(endpoints: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> + '_ {
    endpoints.iter().copied().filter(|endpoint| is_usable(*endpoint)).take(MAX_CANDIDATES)
}

/// Say whether an endpoint may be one of the underlying network: no link-local IPv6 (it lacks the interface), no
/// address of the tunnel itself (a tunnel inside a tunnel), nothing unspecified or multicast.
pub fn is_usable(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let inner = match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            let tunnel = matches!([a, b, c], [0xfd7a, 0x115c, 0xa1e0] | [0xfd60, 0x627a, 0xa42b]);
            tunnel || v6.is_unicast_link_local()
        }
    };
    endpoint.port() != 0 && !inner && !ip.is_unspecified() && !ip.is_multicast()
}
