//! What a relay counts. Written by its thread, read by any.

use std::sync::atomic::{AtomicU64, Ordering};

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

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// All counters of one relay. `clients` and `connections` are gauges.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub $name: Counter,)*
            dropped: [Counter; DropReason::ALL.len()],
        }

        /// The counters at one moment.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Snapshot {
            $(pub $name: u64,)*
            pub dropped_by_reason: Vec<(&'static str, u64)>,
        }

        impl Counters {
            /// Count packets that were not delivered.
            pub fn dropped(&self, reason: DropReason, count: usize) {
                self.dropped[reason as usize].add(count);
            }

            /// Read all of them.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($name: self.$name.get(),)*
                    dropped_by_reason: DropReason::ALL
                        .into_iter()
                        .map(|reason| (reason.name(), self.dropped[reason as usize].get()))
                        .collect(),
                }
            }
        }
    };
}

counters!(
    clients,
    connections,
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
