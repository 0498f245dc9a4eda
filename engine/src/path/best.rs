//! The direct endpoint in use: how long it is trusted, and what its silence means.

use std::time::{Duration, Instant};

use super::compare::Measured;

/// A pong proves an endpoint for two heartbeats and a bit.
const TRUST: Duration = Duration::from_millis(6500);

// A direct path may die without a word. While we send on it and hear nothing back it is asked sooner than at the
// next heartbeat, soon doubted (data then goes by the relay as well), and at last given up.
/// Silence after which the endpoint is pinged: longer than a delayed TCP acknowledgement on most systems.
const ASK_AFTER: Duration = Duration::from_millis(200);
/// Silence after which the relay carries the data too.
const DOUBT_AFTER: Duration = Duration::from_millis(450);
/// Silence after which the endpoint is given up and all are probed again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// The direct endpoint in use.
#[derive(Debug)]
pub struct Best {
    pub measured: Measured,
    trusted_until: Instant,
    /// Since when we send there and hear nothing.
    silent_since: Option<Instant>,
    /// When it was pinged without an answer so far.
    asked_at: Option<Instant>,
}

/// What to do about an endpoint that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    Wait,
    /// Ping it.
    Ask,
    GiveUp,
}

impl Best {
    /// Make it of an endpoint that just answered.
    pub fn proven(now: Instant, measured: Measured) -> Self {
        Self { measured, trusted_until: now + TRUST, silent_since: None, asked_at: None }
    }

    /// Something is sent there.
    pub fn note_sent(&mut self, now: Instant) {
        self.silent_since.get_or_insert(now);
    }

    /// Something of the peer came from there.
    pub fn note_heard(&mut self) {
        self.silent_since = None;
    }

    /// It was pinged. Pings get lost: while it is trusted it is asked again soon, not at the next heartbeat.
    pub fn note_asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// Take back the trust, until the next pong.
    pub fn distrust(&mut self, now: Instant) {
        let just_now = now.checked_sub(Duration::from_nanos(1)).unwrap_or(now);
        self.trusted_until = self.trusted_until.min(just_now);
    }

    /// Say whether a pong proved it lately.
    pub fn trusted(&self, now: Instant) -> bool {
        now <= self.trusted_until
    }

    /// Say whether data goes there and nowhere else: trusted and not silent.
    pub fn certain(&self, now: Instant) -> bool {
        self.trusted(now) && !self.doubted(now)
    }

    /// Say whether it has been silent for too long.
    pub fn doubted(&self, now: Instant) -> bool {
        self.doubt_at().is_some_and(|at| now >= at)
    }

    /// Give the first moment at which it is not certain any more, unless something is heard before.
    pub fn certain_until(&self) -> Instant {
        let trust_ends = self.trusted_until + Duration::from_nanos(1);
        self.doubt_at().map_or(trust_ends, |doubt| doubt.min(trust_ends))
    }

    /// Look at how long it has been silent, or a ping unanswered.
    pub fn check_silence(&self, now: Instant) -> Remedy {
        if self.give_up_at().is_some_and(|at| now >= at) {
            Remedy::GiveUp
        } else if self.ask_at().is_some_and(|at| now >= at) {
            Remedy::Ask
        } else {
            Remedy::Wait
        }
    }

    /// Say when `check_silence` is due.
    pub fn silence_deadline(&self) -> Option<Instant> {
        [self.ask_at(), self.give_up_at()].into_iter().flatten().min()
    }

    /// Once it is not trusted, heartbeats are enough.
    fn ask_at(&self) -> Option<Instant> {
        let at = self.asked_at.or(self.silent_since)? + self.ask_after();
        (at <= self.trusted_until).then_some(at)
    }

    fn give_up_at(&self) -> Option<Instant> {
        Some(self.silent_since? + GIVE_UP_AFTER.max(self.ask_after() * 4))
    }

    fn doubt_at(&self) -> Option<Instant> {
        let doubt_after = DOUBT_AFTER.max(self.ask_after() * 2);
        self.silent_since.map(|since| since + doubt_after)
    }

    /// A slow path gets time to answer.
    fn ask_after(&self) -> Duration {
        ASK_AFTER.max(self.measured.latency * 2)
    }
}
