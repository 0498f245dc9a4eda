//! Which of two proven endpoints is the better one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Fewer points than this over another endpoint are jitter, not progress.
const SWITCH_MARGIN: u64 = 1;
/// Latencies of one path differ by this.
const JITTER: Duration = Duration::from_millis(3);
/// Nothing leaves the machine.
const LOOPBACK_POINTS: u64 = 50;
/// Nothing leaves the site: cheaper, and no NAT that forgets.
const PRIVATE_POINTS: u64 = 20;
/// Seldom behind a NAT.
const IPV6_POINTS: u64 = 10;

/// An endpoint that answered, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    pub endpoint: SocketAddr,
    pub latency: Duration,
}

/// Say whether `challenger` should replace `current`.
pub fn better(challenger: Measured, current: Measured) -> bool {
    if challenger.endpoint == current.endpoint {
        return false;
    }
    let mut points = kind_points(challenger.endpoint.ip());
    let mut current_points = kind_points(current.endpoint.ip());
    if challenger.latency < current.latency {
        points += speed_points(challenger.latency, current.latency);
    } else {
        current_points += speed_points(current.latency, challenger.latency);
    }
    let within_margin = points <= SWITCH_MARGIN && current_points == 0;
    !within_margin && points > current_points
}

/// Say whether `challenger` is worth a switch from a path that works: of another kind and better, or faster by more than
/// what two measurements of one path differ.
pub fn worth_a_switch(challenger: Measured, current: Measured) -> bool {
    let same_kind = kind_points(challenger.endpoint.ip()) == kind_points(current.endpoint.ip());
    let much_faster = challenger.latency + JITTER < current.latency;
    better(challenger, current) && (much_faster || !same_kind)
}

/// How many percent of the slow latency the fast one saves.
fn speed_points(fast: Duration, slow: Duration) -> u64 {
    let (fast, slow) = (fast.as_nanos(), slow.as_nanos());
    if slow == 0 {
        return 0;
    }
    100 - u64::try_from(fast * 100 / slow).unwrap_or(100).min(100)
}

fn kind_points(ip: IpAddr) -> u64 {
    let private = match ip {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    let nearness = if ip.is_loopback() {
        LOOPBACK_POINTS
    } else if private {
        PRIVATE_POINTS
    } else {
        0
    };
    nearness + if ip.is_ipv6() { IPV6_POINTS } else { 0 }
}
