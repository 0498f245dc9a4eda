//! How large a datagram a path carries, and what that leaves for a packet inside the tunnel.
//!
//! Everybody assumes that a path carries a packet of 1,280 bytes inside the tunnel. Where it does not (a VPN outside with
//! a low MTU), a small ping is answered and a full one is not: then pings of all sizes of a short ladder are sent at
//! once, the largest first, and the first answer tells the size after one round trip. Pings are sent with
//! don't-fragment set, and a pong is as long as its ping, so that an answer proves both directions.

use std::time::{Duration, Instant};

use crate::tunnel::OVERHEAD;

/// What a full packet inside the tunnel comes to: 1,280 bytes, sealed.
pub const FULL: usize = 1280 + OVERHEAD;
/// The shortest ping that names its sender: it says whether an endpoint answers at all.
pub const SMALL: usize = 124;
/// Sizes tried, in bytes of UDP payload. Outside an IPv4 packet is 28 bytes longer, an IPv6 packet 48: the rungs fit
/// outer MTUs of 1300, 1280 (IPv4 and IPv6), 1240, 1200, 1100, 900 and 600.
pub const LADDER: [usize; 9] = [FULL, 1272, 1252, 1232, 1212, 1172, 1072, 872, 572];

/// More than a full packet, tried where our own stack takes it and the peer's pongs are as long as our pings (those of
/// other implementations are not): for outer MTUs of 9000 (and loopback), 1500 and 1460.
const UPWARD: [usize; 3] = [8952, 1452, 1412];

/// A path that carries less than we could use is looked at again after these, the last one for ever: the first size may
/// have been a matter of a lost packet, and a VPN may end.
const RAISE_AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(600)];

/// The largest packet inside the tunnel that a path of this size carries.
pub fn inner_mtu(size: usize) -> usize {
    size - OVERHEAD
}

/// The size of a path that carries a packet of this length inside the tunnel.
pub fn size_for(inner_mtu: usize) -> usize {
    inner_mtu + OVERHEAD
}

/// Give the rungs above `size` up to `largest`, the largest first.
pub fn above(size: usize, largest: usize) -> impl Iterator<Item = usize> {
    UPWARD.into_iter().chain(LADDER).filter(move |rung| *rung > size && *rung <= largest)
}

/// When to see whether a path carries more than it did.
#[derive(Debug, Clone, Copy)]
pub struct Raise {
    step: usize,
    pub at: Instant,
}

impl Raise {
    /// Begin after a path was found to carry less than we could use.
    pub fn first(now: Instant) -> Self {
        Self { step: 0, at: now + RAISE_AFTER[0] }
    }

    /// Go on after a look.
    pub fn next(self, now: Instant) -> Self {
        let step = (self.step + 1).min(RAISE_AFTER.len() - 1);
        Self { step, at: now + RAISE_AFTER[step] }
    }
}
