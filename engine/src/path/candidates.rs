//! The endpoints at which a peer may be reached, and what became of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::wire::disco::TxId;

/// More than this and those that answer least recently are forgotten.
const MAX_CANDIDATES: usize = 100;
/// A peer that pings us from somewhere does so every few seconds while it cares.
const UNASKED_LIFETIME: Duration = Duration::from_secs(45);
/// A second ping to one endpoint any sooner would be noise.
const PING_INTERVAL: Duration = Duration::from_secs(5);

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
    /// When the peer pinged us from here, and with which ping.
    heard: Option<(Instant, TxId)>,
    pinged_at: Option<Instant>,
    answered_at: Option<Instant>,
    latency: Option<Duration>,
    unanswered: u32,
    pings_sent: u32,
    pongs_received: u32,
}

impl Candidate {
    fn wanted(&self, now: Instant) -> bool {
        let heard_lately = self.heard.is_some_and(|(at, _)| now.saturating_duration_since(at) < UNASKED_LIFETIME);
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
}

/// What a ping that arrived tells of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The peer was not heard from there, or not lately.
    New,
    Known,
    /// The same ping came twice.
    Duplicate,
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

    /// Note that the peer pinged us from `endpoint`.
    pub fn heard(&mut self, now: Instant, endpoint: SocketAddr, txid: TxId) -> Heard {
        let candidate = self.by_endpoint.entry(endpoint).or_default();
        let heard_lately = |(at, _): (Instant, TxId)| now.saturating_duration_since(at) < PING_INTERVAL;
        let known = candidate.heard.is_some_and(heard_lately);
        if candidate.heard.is_some_and(|(_, last)| last == txid) {
            return Heard::Duplicate;
        }
        candidate.heard = Some((now, txid));
        self.prune(now);
        if known {
            Heard::Known
        } else {
            Heard::New
        }
    }

    /// List those not pinged within the ping interval.
    pub fn due(&self, now: Instant) -> Vec<SocketAddr> {
        let due = self.by_endpoint.iter().filter(|(_, candidate)| candidate.due(now));
        due.map(|(endpoint, _)| *endpoint).collect()
    }

    /// Note a ping on its way.
    pub fn pinged(&mut self, now: Instant, endpoint: SocketAddr) {
        if let Some(candidate) = self.by_endpoint.get_mut(&endpoint) {
            candidate.pinged_at = Some(now);
            candidate.pings_sent = candidate.pings_sent.saturating_add(1);
        }
    }

    /// Note a pong; says whether the endpoint is (still) a candidate.
    pub fn answered(&mut self, now: Instant, endpoint: SocketAddr, latency: Duration) -> bool {
        let Some(candidate) = self.by_endpoint.get_mut(&endpoint) else {
            return false;
        };
        candidate.answered_at = Some(now);
        candidate.latency = Some(latency);
        candidate.unanswered = 0;
        candidate.pongs_received = candidate.pongs_received.saturating_add(1);
        true
    }

    /// Note that a ping found no answer.
    pub fn unanswered(&mut self, endpoint: SocketAddr) {
        if let Some(candidate) = self.by_endpoint.get_mut(&endpoint) {
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
        while self.by_endpoint.len() > MAX_CANDIDATES {
            let oldest = self.by_endpoint.iter().min_by_key(|(_, candidate)| candidate.answered_at);
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

    /// Say whether `endpoint` is one.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.by_endpoint.contains_key(&endpoint)
    }

    /// Describe each, for statistics.
    pub fn stats(&self) -> Vec<CandidateStats> {
        let describe = |(endpoint, candidate): (&SocketAddr, &Candidate)| CandidateStats {
            endpoint: *endpoint,
            source: match (candidate.published, candidate.call_me_maybe) {
                (true, _) => "published",
                (false, true) => "call-me-maybe",
                (false, false) => "ping",
            },
            state: candidate.state(),
            latency: candidate.latency,
            pings_sent: candidate.pings_sent,
            pongs_received: candidate.pongs_received,
        };
        self.by_endpoint.iter().map(describe).collect()
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
