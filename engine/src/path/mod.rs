//! Which way to a peer: relayed from the first packet, direct as soon as an endpoint is proven.
//!
//! Everything here is pure: `now` is passed in, what must be sent is taken out. One `PeerPath` per peer; after each
//! `handle_…`, drain `poll_transmit` and `poll_event`, then sleep no longer than `poll_timeout`.

pub mod best;
pub mod candidates;
pub mod compare;
mod guard;
pub mod history;
pub mod peer;
mod pings;
mod probe;
mod reason;
mod search;
pub mod sizes;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::disco::Message;

pub use candidates::{CandidateState, CandidateStats};
pub use history::Change;
pub use peer::PeerPath;

/// A relay region's number; it fits the port of a pseudo address, so 16 bits.
pub type Region = u16;

/// Where a disco message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Udp(SocketAddr),
    Relay { region: Region },
}

/// A disco message to seal and send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    pub to: Source,
    pub message: Message,
    /// Bytes that its packet should have, for pings and pongs.
    pub length: usize,
}

/// Why a datagram could not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It has `size` bytes, and the interface carries less.
    TooLarge { size: usize },
    /// The operating system's error.
    Error { code: i32 },
}

/// Where data goes now: both are set while a direct path is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Route {
    pub direct: Option<SocketAddr>,
    pub relay: Option<Region>,
}

impl Route {
    /// Every way that data takes.
    pub fn ways(&self) -> impl Iterator<Item = Source> {
        self.direct.map(Source::Udp).into_iter().chain(self.relay.map(|region| Source::Relay { region }))
    }
}

/// The path that people are told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    Direct {
        endpoint: SocketAddr,
        latency: Duration,
    },
    Relayed {
        region: Region,
    },
    /// Neither a proven endpoint nor a relay is known.
    None,
}

/// What the owner of a path should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// Another path is in use; `reason` is a sentence for a person.
    Changed { path: InUse, reason: String },
    /// The path stays by relay, and it is known why.
    Settled { path: InUse, reason: String },
    /// The answer to a ping asked for with `token`; the first one only.
    Pong { token: u64, latency: Duration, via: Source },
    /// Our endpoints are needed by the peer and were not measured lately: measure, then `handle_own_endpoints`.
    EndpointsWanted,
}
