//! What a relay counts. Written by its thread, read by any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One number; nothing is ordered by it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Count one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Count many.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Uncount one, of a gauge.
    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a packet was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Nobody with that key is connected.
    UnknownDestination,
    /// It left with the packet still in its queue.
    GoneDisconnected,
    /// Its queue was full: the oldest packet made room.
    QueueHead,
    /// Its queue was full of newer or larger things: this packet found no room.
    QueueTail,
    /// Its connection failed with the packet half written.
    WriteError,
    /// Several connections use its key, and none of those left has ever sent.
    DuplicateClient,
}

impl DropReason {
    const ALL: [Self; 6] = [
        Self::UnknownDestination,
        Self::GoneDisconnected,
        Self::QueueHead,
        Self::QueueTail,
        Self::WriteError,
        Self::DuplicateClient,
    ];

    /// Name it as metrics do.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownDestination => "unknown_dest",
            Self::GoneDisconnected => "gone_disconnected",
            Self::QueueHead => "queue_head",
            Self::QueueTail => "queue_tail",
            Self::WriteError => "write_error",
            Self::DuplicateClient => "dup_client",
        }
    }
}

/// What a packet is: the way to a better path, or what travels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Disco,
    Other,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Disco, Self::Other];

    /// Name it as metrics do.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disco => "disco",
            Self::Other => "other",
        }
    }
}

/// How much of the average one more packet is.
const AVERAGE_OF: u64 = 64;

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// All counters of one relay. `clients`, `connections` and `home_connections` are gauges.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub $name: Counter,)*
            dropped: [Counter; DropReason::ALL.len()],
            dropped_kind: [Counter; Kind::ALL.len()],
            received_kind: [Counter; Kind::ALL.len()],
            /// Of the last packets, moving.
            queued_nanos: AtomicU64,
        }

        /// The counters at one moment.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Snapshot {
            $(pub $name: u64,)*
            pub dropped_by_reason: Vec<(&'static str, u64)>,
            pub dropped_by_kind: Vec<(&'static str, u64)>,
            pub received_by_kind: Vec<(&'static str, u64)>,
            pub average_queue_seconds: f64,
        }

        impl Counters {
            /// Count packets that were not delivered.
            pub fn dropped(&self, reason: DropReason, kind: Kind, count: usize) {
                if count > 0 {
                    self.dropped[reason as usize].add(count);
                    self.dropped_kind[kind as usize].add(count);
                }
            }

            /// Count a packet that came in.
            pub fn received(&self, kind: Kind) {
                self.packets_received.add_one();
                self.received_kind[kind as usize].add_one();
            }

            /// Note how long a packet waited for its receiver. Only the relay's thread does.
            pub fn queued(&self, waited: Duration) {
                let before = self.queued_nanos.load(Ordering::Relaxed);
                let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX) / AVERAGE_OF;
                self.queued_nanos.store(before - before / AVERAGE_OF + waited, Ordering::Relaxed);
            }

            /// Read all of them.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($name: self.$name.get(),)*
                    dropped_by_reason: DropReason::ALL
                        .into_iter()
                        .map(|reason| (reason.name(), self.dropped[reason as usize].get()))
                        .collect(),
                    dropped_by_kind: by_kind(&self.dropped_kind),
                    received_by_kind: by_kind(&self.received_kind),
                    average_queue_seconds: Duration::from_nanos(self.queued_nanos.load(Ordering::Relaxed)).as_secs_f64(),
                }
            }
        }
    };
}

fn by_kind(counters: &[Counter]) -> Vec<(&'static str, u64)> {
    Kind::ALL.into_iter().map(|kind| (kind.name(), counters[kind as usize].get())).collect()
}

counters!(
    clients,
    connections,
    home_connections,
    accepts,
    bytes_received,
    bytes_sent,
    packets_received,
    packets_sent,
    got_ping,
    sent_pong,
    home_moves_in,
    home_moves_out,
    peer_gone_disconnected,
    peer_gone_not_here,
    unknown_frames,
);
