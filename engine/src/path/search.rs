//! When to look for a direct path again: often at first, then ever more seldom, and for ever.

use std::time::{Duration, Instant};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Until a search is this old, look at this interval. NATs and firewalls let a ping in only after one went out, so both
/// sides look at the same pace. A path that was lost is missed: it is looked for more often than one never found.
const LOST: [(Duration, Duration); 5] = [
    (seconds(15), Duration::from_millis(500)),
    (seconds(60), seconds(1)),
    (seconds(300), seconds(5)),
    (seconds(1800), seconds(15)),
    (Duration::MAX, seconds(60)),
];
const NEVER_FOUND: [(Duration, Duration); 5] = [
    (seconds(2), Duration::from_millis(500)),
    (seconds(10), seconds(1)),
    (seconds(300), seconds(5)),
    (seconds(1800), seconds(15)),
    (Duration::MAX, seconds(60)),
];

/// So long a lost path is looked for with all means.
const EAGER: Duration = seconds(60);

/// A search for a direct path.
#[derive(Debug, Default, Clone, Copy)]
pub struct Search {
    began_at: Option<Instant>,
    lost: bool,
    next_at: Option<Instant>,
}

impl Search {
    /// Begin anew; `lost` when there was a direct path a moment ago.
    pub fn begin(&mut self, now: Instant, lost: bool) {
        *self = Self { began_at: Some(now), lost, next_at: None };
        self.advance(now);
    }

    /// There is nothing to look for.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// Say whether a search is on.
    pub fn running(&self) -> bool {
        self.began_at.is_some()
    }

    /// Say whether a path that was lost a moment ago is looked for.
    pub fn eager(&self, now: Instant) -> bool {
        self.lost && self.began_at.is_some_and(|at| now.saturating_duration_since(at) < EAGER)
    }

    /// Say when the next round is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Plan the round after this one.
    pub fn advance(&mut self, now: Instant) {
        let Some(began_at) = self.began_at else { return };
        self.next_at = Some(now + self.interval(now.saturating_duration_since(began_at)));
    }

    fn interval(&self, age: Duration) -> Duration {
        let table = if self.lost { &LOST } else { &NEVER_FOUND };
        let row = table.iter().find(|(until, _)| age < *until);
        row.map_or(seconds(60), |(_, interval)| *interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Count the rounds of a search within a time.
    fn rounds(lost: bool, within: Duration) -> usize {
        let start = Instant::now();
        let (mut search, mut count) = (Search::default(), 0);
        search.begin(start, lost);
        while let Some(at) = search.next_at().filter(|at| *at <= start + within) {
            search.advance(at);
            count += 1;
        }
        count
    }

    #[test]
    fn a_lost_path_is_looked_for_twice_a_second_then_less_and_never_not_at_all() {
        assert_eq!(rounds(true, seconds(15)), 30);
        assert_eq!(rounds(true, seconds(60)), 75);
        assert_eq!(rounds(true, seconds(3600)) - rounds(true, seconds(1800)), 30);
        assert_eq!(rounds(true, seconds(86_400)) - rounds(true, seconds(82_800)), 60, "every minute, for ever");
    }

    #[test]
    fn a_path_never_found_costs_little() {
        assert_eq!(rounds(false, seconds(60)), 22);
        assert_eq!(rounds(false, seconds(3600)) - rounds(false, seconds(1800)), 30);
    }

    #[test]
    fn nothing_is_planned_before_the_beginning_or_after_the_end() {
        let mut search = Search::default();
        search.advance(Instant::now());
        assert!(!search.running() && search.next_at().is_none());
        search.begin(Instant::now(), true);
        search.stop();
        assert!(!search.running() && search.next_at().is_none());
    }
}
