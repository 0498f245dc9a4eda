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
    silence: Option<Silence>,
}

/// We sent and have heard nothing since.
#[derive(Debug)]
struct Silence {
    since: Instant,
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
        Self { measured, trusted_until: now + TRUST, silence: None }
    }

    /// Something is sent there.
    pub fn note_sent(&mut self, now: Instant) {
        self.silence.get_or_insert(Silence { since: now, asked_at: None });
    }

    /// Something of the peer came from there.
    pub fn note_heard(&mut self) {
        self.silence = None;
    }

    /// Take back the trust, until the next pong.
    pub fn distrust(&mut self, now: Instant) {
        self.trusted_until = now.checked_sub(Duration::from_nanos(1)).unwrap_or(now);
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

    /// Look at how long it has been silent; whoever is told to ask is told so once for each interval.
    pub fn check_silence(&mut self, now: Instant) -> Remedy {
        let (ask_after, give_up_after) = (self.ask_after(), self.give_up_after());
        let Some(silence) = &mut self.silence else { return Remedy::Wait };
        if now >= silence.since + give_up_after {
            return Remedy::GiveUp;
        }
        if now < silence.asked_at.unwrap_or(silence.since) + ask_after {
            return Remedy::Wait;
        }
        silence.asked_at = Some(now);
        Remedy::Ask
    }

    /// Say when `check_silence` is due.
    pub fn silence_deadline(&self) -> Option<Instant> {
        let silence = self.silence.as_ref()?;
        let ask = silence.asked_at.unwrap_or(silence.since) + self.ask_after();
        Some(ask.min(silence.since + self.give_up_after()))
    }

    fn doubt_at(&self) -> Option<Instant> {
        let doubt_after = DOUBT_AFTER.max(self.ask_after() * 2);
        self.silence.as_ref().map(|silence| silence.since + doubt_after)
    }

    /// A slow path gets time to answer.
    fn ask_after(&self) -> Duration {
        ASK_AFTER.max(self.measured.latency * 2)
    }

    fn give_up_after(&self) -> Duration {
        GIVE_UP_AFTER.max(self.ask_after() * 4)
    }
}
