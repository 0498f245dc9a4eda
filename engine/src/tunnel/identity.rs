//! Who we are to our peers, and where a session gets what is not its own: random bytes and the time of day.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use x25519_dalek::{PublicKey, StaticSecret};

use super::cookie;
use super::primitives::Mac;

/// When a handshake began, as its initiator says: TAI64N, 8 bytes of seconds and 4 of nanoseconds.
pub type Stamp = [u8; 12];

/// The second in which 1970 began, by TAI64 (2^62, and the 10 s that TAI was ahead then).
const EPOCH: u64 = (1 << 62) + 10;

/// Nothing in the protocol needs the time more exactly than a peer takes handshakes (20 ms), so nobody learns it more
/// exactly than to 2^24 ns, about 17 ms.
const COARSE: u64 = (1 << 24) - 1;

/// What is asked of the world.
#[derive(Clone, Copy)]
pub struct Sources {
    /// Fills with bytes that nobody can foretell.
    pub random: fn(&mut [u8]),
    /// The time since 1970 began. It may jump, back too.
    pub wall: fn() -> Duration,
}

/// Our keys, shared by all sessions of a node.
pub struct Identity {
    pub(super) private: StaticSecret,
    pub(super) public: [u8; 32],
    /// Signs what is sent to us, by which we see that its sender knows our public key.
    pub(super) mac_key: Mac,
    sources: Sources,
    stamped: AtomicU64,
}

impl Identity {
    /// Derive all that is needed of the private key.
    pub fn new(private: &[u8; 32], sources: Sources) -> Arc<Self> {
        let private = StaticSecret::from(*private);
        let public = PublicKey::from(&private).to_bytes();
        let mac_key = cookie::mac_key(&public);
        Arc::new(Self { private, public, mac_key, sources, stamped: AtomicU64::new(0) })
    }

    /// Random bytes.
    pub(super) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.sources.random)(&mut bytes);
        bytes
    }

    /// Random bytes into a buffer.
    pub(super) fn fill(&self, bytes: &mut [u8]) {
        (self.sources.random)(bytes);
    }

    /// Date a handshake: each date is later than all before it, even where the clock was put back.
    pub(super) fn stamp(&self) -> Stamp {
        let wall = u64::try_from((self.sources.wall)().as_nanos()).unwrap_or(u64::MAX) & !COARSE;
        let later = |last: u64| Some(wall.max(last.saturating_add(1)));
        let last = self.stamped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
        let at = Duration::from_nanos(wall.max(last.saturating_add(1)));
        let mut stamp = [0; 12];
        stamp[..8].copy_from_slice(&(EPOCH + at.as_secs()).to_be_bytes());
        stamp[8..].copy_from_slice(&at.subsec_nanos().to_be_bytes());
        stamp
    }
}
