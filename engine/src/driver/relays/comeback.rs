//! When a relay that ended or failed is tried again.
//!
//! A connection that is refused costs both sides two small packets, so those are tried often: a relay that restarts is
//! found within a tenth of a second, or a sixteenth of the time that it was away, whichever is more. Whatever gets further
//! and fails (no answer, TLS, the login) costs a relay in trouble more, and is repeated ever more seldom. The caller
//! adds jitter, so that the clients of a relay that restarts do not come back all at once.

use std::time::{Duration, Instant};

/// The pause after a refusal while the relay is away for less than `SHARE` times this: a restart takes about a second,
/// and what it costs a stream should be the relay's time, not ours.
const QUICK: Duration = Duration::from_millis(100);
/// A relay that refuses is tried again after this part of the time that it was away: a pause is hardly longer for it,
/// five seconds become no more than five and a half, and a minute of refusals takes about seventy tries.
const SHARE: u32 = 16;
/// The pause after the first attempt that failed in another way; it doubles with each.
const FIRST: Duration = Duration::from_millis(400);
/// The longest pause between attempts.
const LAST: Duration = Duration::from_secs(5);
/// A region that is not home, and was away for so long, is tried as seldom as this.
const PATIENCE: Duration = Duration::from_secs(45);
const SELDOM: Duration = Duration::from_secs(60);
/// A connection that ended sooner than this does not make up for what failed before it: a relay that lets everybody in
/// and falls over is not to be helped in that.
const STEADY: Duration = Duration::from_secs(5);
/// How long a relay is away when others are looked at for the first time; then after twice the time, and so on.
const LOOK: Duration = Duration::from_millis(500);

/// How a connection, or an attempt at one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It stood.
    Lost,
    /// Nothing listens there, or there is no way to it.
    Refused,
    /// It got further than that, or nowhere.
    Failed,
}

/// The attempts to come back to one relay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comeback {
    away_since: Option<Instant>,
    opened_at: Option<Instant>,
    /// Attempts in a row that cost more than a refusal.
    failed: u32,
    /// How long it was away when others were looked at last.
    looked: Duration,
}

impl Comeback {
    /// A connection stands.
    pub fn opened(&mut self, now: Instant) {
        (self.away_since, self.opened_at, self.looked) = (None, Some(now), Duration::ZERO);
    }

    /// One ended; says how long to wait for the next attempt, which for `home` is never given up.
    pub fn ended(&mut self, now: Instant, ending: Ending, home: bool) -> Duration {
        let stood = self.opened_at.take().map(|at| now.saturating_duration_since(at));
        let away = now.saturating_duration_since(*self.away_since.get_or_insert(now));
        match ending {
            Ending::Lost if stood.is_some_and(|stood| stood >= STEADY) => self.failed = 0,
            Ending::Refused => {}
            Ending::Lost | Ending::Failed => self.failed = self.failed.saturating_add(1),
        }
        let longest = if home || away < PATIENCE { LAST } else { SELDOM };
        match ending {
            // One that was away for longer than our patience is not in the middle of a restart.
            Ending::Refused if away >= PATIENCE => longest,
            Ending::Refused => (away / SHARE).clamp(QUICK, LAST),
            Ending::Lost if self.failed <= 1 => QUICK,
            Ending::Lost | Ending::Failed => FIRST.saturating_mul(1 << (self.failed - 1).min(10)).min(longest),
        }
    }

    /// Say whether to look for other relays now: at once, and ever more seldom while this one is away.
    pub fn take_look(&mut self, now: Instant) -> bool {
        let Some(since) = self.away_since else { return false };
        let away = now.saturating_duration_since(since);
        let due = away.is_zero() || away >= (self.looked * 2).max(LOOK);
        if due {
            self.looked = away;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Try to come back until a relay has been away for so long; returns when each attempt was made.
    fn attempts(ending: Ending, home: bool, until: Duration, jitter: f64) -> Vec<Duration> {
        let (start, mut comeback, mut tries) = (Instant::now(), Comeback::default(), Vec::new());
        comeback.opened(start - STEADY);
        let mut at = comeback.ended(start, Ending::Lost, home).mul_f64(jitter);
        while at <= until {
            tries.push(at);
            at += comeback.ended(start + at, ending, home).mul_f64(jitter);
        }
        tries
    }

    /// The longest wait from when a relay is back until the next attempt, after so long an absence.
    fn worst_wait(away: Duration) -> Duration {
        let tries = attempts(Ending::Refused, true, away * 2 + LAST * 2, 1.5);
        let next = tries.iter().find(|at| **at >= away).copied().unwrap_or(Duration::MAX);
        next - away
    }

    #[test]
    fn a_relay_that_refuses_is_found_soon_after_it_is_back() {
        for (away_ms, within_ms) in [(50, 150), (500, 150), (1000, 150), (2000, 190), (5000, 500), (600_000, 7500)] {
            let waits = worst_wait(Duration::from_millis(away_ms));
            assert!(waits <= Duration::from_millis(within_ms), "{away_ms} ms away: {waits:?}");
        }
    }

    #[test]
    fn refusals_cost_about_seventy_tries_in_a_minute_then_twelve() {
        let first = attempts(Ending::Refused, true, Duration::from_secs(60), 1.0).len();
        assert!((65..80).contains(&first), "{first}");
        let hour = attempts(Ending::Refused, true, Duration::from_secs(3600), 1.0).len();
        assert!((720..800).contains(&hour), "{hour}");
        let elsewhere = attempts(Ending::Refused, false, Duration::from_secs(3600), 1.0).len();
        assert!(elsewhere < 140, "{elsewhere}");
    }

    #[test]
    fn what_costs_a_relay_more_is_tried_ever_more_seldom() {
        let tries = attempts(Ending::Failed, true, Duration::from_secs(20), 1.0);
        let expected = [100, 500, 1300, 2900, 6100, 11_100, 16_100].map(Duration::from_millis);
        assert_eq!(tries, expected);
        assert!(attempts(Ending::Failed, false, Duration::from_secs(3600), 1.0).len() < 80);
    }

    #[test]
    fn a_relay_that_lets_us_in_and_falls_over_is_not_hurried() {
        let (mut now, mut comeback, mut pauses) = (Instant::now(), Comeback::default(), Vec::new());
        for _ in 0..6 {
            comeback.opened(now);
            now += Duration::from_millis(50);
            pauses.push(comeback.ended(now, Ending::Lost, true));
            now += Duration::from_secs(1);
        }
        assert_eq!(pauses, [100, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis));
        comeback.opened(now);
        assert_eq!(comeback.ended(now + STEADY, Ending::Lost, true), QUICK, "it stood for a while");
    }

    #[test]
    fn refusals_do_not_make_other_failures_forgotten() {
        let (start, mut comeback) = (Instant::now(), Comeback::default());
        for second in 0..3 {
            comeback.ended(start + Duration::from_secs(second), Ending::Failed, true);
        }
        comeback.ended(start + Duration::from_secs(3), Ending::Refused, true);
        let pause = comeback.ended(start + Duration::from_secs(4), Ending::Failed, true);
        assert_eq!(pause, Duration::from_millis(3200));
    }

    #[test]
    fn others_are_looked_at_when_it_goes_and_then_ever_more_seldom() {
        let (start, mut comeback) = (Instant::now(), Comeback::default());
        assert!(!comeback.take_look(start), "it was never away");
        comeback.ended(start, Ending::Lost, true);
        let looks = (0..600).filter(|tenths| comeback.take_look(start + Duration::from_millis(100) * *tenths));
        assert_eq!(looks.collect::<Vec<_>>(), [0, 5, 10, 20, 40, 80, 160, 320]);
    }
}
