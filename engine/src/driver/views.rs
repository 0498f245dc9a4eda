//! Peers and paths as Python sees them.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::node::Node;
use super::outbox::PathView;
use super::peers::Peer;
use crate::path::sizes::inner_mtu;
use crate::path::{CandidateStats, Change, InUse};
use crate::wire::keys::Key;

/// One endpoint tried for a peer, as Python sees it.
#[derive(Debug, Clone)]
pub struct CandidateView {
    pub endpoint: String,
    pub source: &'static str,
    pub state: &'static str,
    pub latency: Option<Duration>,
    pub pings_sent: u32,
    pub pongs_received: u32,
    pub ping_age: Option<Duration>,
    pub pong_age: Option<Duration>,
    /// The largest packet inside the tunnel that it was seen to carry; 0 when that is not known.
    pub inner_mtu: usize,
    pub reason: String,
}

/// One change of path, as Python sees it.
#[derive(Debug, Clone)]
pub struct ChangeView {
    pub age: Duration,
    pub path: PathView,
    pub reason: String,
}

impl From<CandidateStats> for CandidateView {
    fn from(stats: CandidateStats) -> Self {
        Self {
            endpoint: stats.endpoint.to_string(),
            source: stats.source,
            state: stats.state.name(),
            latency: stats.latency,
            pings_sent: stats.pings_sent,
            pongs_received: stats.pongs_received,
            ping_age: stats.ping_age,
            pong_age: stats.pong_age,
            inner_mtu: if stats.size == 0 { 0 } else { inner_mtu(stats.size) },
            reason: stats.reason,
        }
    }
}

/// A peer, as Python sees it.
#[derive(Debug, Clone)]
pub struct PeerView {
    pub key: Key,
    pub addresses: Vec<String>,
    pub home_region: u16,
    pub path: PathView,
    pub latency: Option<Duration>,
    pub reason: String,
    pub candidates: Vec<CandidateView>,
    pub history: Vec<ChangeView>,
    pub inner_mtu: usize,
    pub handshake_age: Option<Duration>,
    pub receive_age: Option<Duration>,
    pub counters: Counters,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
}

/// A path as people see it, with its latency where that is known.
pub fn view(path: InUse) -> (PathView, Option<Duration>) {
    match path {
        InUse::Direct { endpoint, latency } => {
            (PathView { direct: true, endpoint: endpoint.to_string(), region: 0 }, Some(latency))
        }
        InUse::Relayed { region } => (PathView { region, ..PathView::default() }, None),
        InUse::None => (PathView::default(), None),
    }
}

fn change_view(now: Instant, change: &Change) -> ChangeView {
    let age = now.saturating_duration_since(change.at);
    ChangeView { age, path: view(change.path).0, reason: change.reason.clone() }
}

impl Peer {
    /// Describe a peer.
    pub fn view(&self, now: Instant) -> PeerView {
        let (path, latency) = view(self.path.in_use(now));
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        PeerView {
            key: self.key,
            addresses: self.addresses.iter().map(Ipv6Addr::to_string).collect(),
            home_region: self.home_region,
            path,
            latency,
            reason: self.path.reason(now),
            candidates: self.path.candidates(now).into_iter().map(CandidateView::from).collect(),
            history: self.path.history().map(|change| change_view(now, change)).collect(),
            inner_mtu: self.path.inner_mtu(),
            handshake_age: self.session.handshake_age(now),
            receive_age: age(self.heard_at),
            counters: self.counters,
        }
    }
}

impl Node {
    /// Describe all peers.
    pub fn peer_views(&self, now: Instant) -> Vec<PeerView> {
        self.peers.iter().map(|peer| peer.view(now)).collect()
    }
}
