//! Round-trip times and the timeout that follows from them (RFC 6298).

use std::time::Duration;

/// The timeout before anything was measured.
const INITIAL: Duration = Duration::from_millis(500);
/// The timeout is not shorter than this (RFC 6298 asks for a second; Linux, and so every path, lives with this).
const SHORTEST: Duration = Duration::from_millis(200);

/// The smoothed round trip of one connection.
#[derive(Debug, Default)]
pub struct RoundTrip {
    smooth: Option<Duration>,
    variation: Duration,
}

impl RoundTrip {
    pub fn measure(&mut self, rtt: Duration) {
        match self.smooth {
            None => (self.smooth, self.variation) = (Some(rtt), rtt / 2),
            Some(smooth) => {
                self.variation = (self.variation * 3 + smooth.abs_diff(rtt)) / 4;
                self.smooth = Some((smooth * 7 + rtt) / 8);
            }
        }
    }

    pub fn smooth(&self) -> Option<Duration> {
        self.smooth
    }

    /// How long to wait for an acknowledgement before all is taken for lost.
    pub fn timeout(&self) -> Duration {
        self.smooth.map_or(INITIAL, |smooth| (smooth + self.variation * 4).max(SHORTEST))
    }
}
