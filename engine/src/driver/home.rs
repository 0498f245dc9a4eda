//! Which region is home: the nearest, without changing for little.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Measurements count for this long.
const MEMORY: Duration = Duration::from_secs(300);
/// A new home must be nearer by this much.
const MARGIN: Duration = Duration::from_millis(10);

/// Measured latencies of the last minutes.
#[derive(Debug, Default)]
pub struct History {
    reports: VecDeque<(Instant, BTreeMap<u16, Duration>)>,
}

impl History {
    /// Add a report and choose; `None` when nothing was measured and there is no home to stay at.
    pub fn choose(
        &mut self,
        now: Instant,
        report: &BTreeMap<u16, Duration>,
        scores: &BTreeMap<u16, f64>,
        home: u16,
    ) -> Option<u16> {
        self.reports.push_back((now, report.clone()));
        while self.reports.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > MEMORY) {
            self.reports.pop_front();
        }
        let scaled = |region: u16, latency: Duration| latency.mul_f64(scores.get(&region).copied().unwrap_or(1.0));
        let best_of = |region: u16| self.reports.iter().filter_map(|(_, seen)| seen.get(&region)).min().copied();
        let known = report.keys().filter_map(|region| Some((scaled(*region, best_of(*region)?), *region)));
        let stay = (home != 0).then_some(home);
        let Some((best, nearest)) = known.min() else { return stay };
        let Some(current) = report.get(&home).map(|latency| scaled(home, *latency)) else { return Some(nearest) };
        let little = current.saturating_sub(best) < MARGIN || best > current / 3 * 2;
        if nearest != home && little {
            stay
        } else {
            Some(nearest)
        }
    }
}

/// Choose the region to fall back to from `others`, all but home: the nearest, but the present one when it is hardly
/// farther. Nodes that have the same home should choose alike, so where nothing was measured it is the first.
pub fn second(
    others: &[u16],
    report: &BTreeMap<u16, Duration>,
    scores: &BTreeMap<u16, f64>,
    present: u16,
) -> Option<u16> {
    let scaled = |region: u16| {
        let score = scores.get(&region).copied().unwrap_or(1.0);
        report.get(&region).map(|latency| latency.mul_f64(score))
    };
    let nearest = others.iter().copied().min_by_key(|region| (scaled(*region).unwrap_or(Duration::MAX), *region))?;
    let stay = match (others.contains(&present).then(|| scaled(present)), scaled(nearest)) {
        (Some(Some(here)), Some(best)) => here.saturating_sub(best) < MARGIN,
        (Some(None), None) => true,
        _ => false,
    };
    Some(if stay { present } else { nearest })
}

/// Pick one of `count` things by a number from 0 to below 1.
pub fn any(count: usize, fraction: f64) -> usize {
    (count as f64 * fraction) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(latencies: &[(u16, u64)]) -> BTreeMap<u16, Duration> {
        latencies.iter().map(|(region, ms)| (*region, Duration::from_millis(*ms))).collect()
    }

    fn run(reports: &[(u64, &[(u16, u64)])], scores: &[(u16, f64)]) -> Option<u16> {
        let (start, mut history, mut home) = (Instant::now(), History::default(), 0);
        let scores = scores.iter().copied().collect();
        for (second, latencies) in reports {
            let now = start + Duration::from_secs(*second);
            home = history.choose(now, &report(latencies), &scores, home).unwrap_or(0);
        }
        (home != 0).then_some(home)
    }

    #[test]
    fn the_nearest_region_is_home() {
        assert_eq!(run(&[(0, &[(1, 20), (2, 30)])], &[]), Some(1));
    }

    #[test]
    fn home_does_not_move_for_little() {
        let absolute: &[(u64, &[(u16, u64)])] = &[(0, &[(1, 4), (2, 5)]), (1, &[(1, 4), (2, 1)])];
        assert_eq!(run(absolute, &[]), Some(1), "less than 10 ms");
        let relative: &[(u64, &[(u16, u64)])] = &[(0, &[(1, 100), (2, 120)]), (1, &[(1, 100), (2, 70)])];
        assert_eq!(run(relative, &[]), Some(1), "less than a third");
        let clear: &[(u64, &[(u16, u64)])] = &[(0, &[(1, 100), (2, 120)]), (1, &[(1, 100), (2, 50)])];
        assert_eq!(run(clear, &[]), Some(2));
    }

    #[test]
    fn home_moves_when_it_is_gone_and_a_bad_moment_is_forgiven() {
        assert_eq!(run(&[(0, &[(1, 20), (2, 30)]), (1, &[(2, 30)])], &[]), Some(2));
        assert_eq!(run(&[(0, &[(1, 20), (2, 30)]), (1, &[(1, 29), (2, 30)])], &[]), Some(1));
        assert_eq!(run(&[(0, &[(1, 20), (2, 30)]), (1, &[])], &[]), Some(1), "nothing measured: stay");
    }

    #[test]
    fn the_standby_is_the_nearest_of_the_others_and_stays_for_little() {
        let choose = |others: &[u16], latencies: &[(u16, u64)], present| {
            second(others, &report(latencies), &BTreeMap::from([(4, 100.0)]), present)
        };
        assert_eq!(choose(&[], &[(1, 5)], 0), None);
        assert_eq!(choose(&[2, 3], &[(2, 30), (3, 20)], 0), Some(3));
        assert_eq!(choose(&[2, 3], &[(2, 25), (3, 20)], 2), Some(2));
        assert_eq!(choose(&[2, 3], &[(2, 35), (3, 20)], 2), Some(3));
        assert_eq!(choose(&[3, 2], &[], 0), Some(2), "nothing measured");
        assert_eq!(choose(&[3, 2], &[], 3), Some(3));
        assert_eq!(choose(&[3, 2], &[(2, 500)], 3), Some(2), "what was measured wins");
        assert_eq!(choose(&[2, 4], &[(2, 500), (4, 20)], 0), Some(2), "scores count");
    }

    #[test]
    fn a_score_prefers_or_penalises() {
        assert_eq!(run(&[(0, &[(1, 20), (2, 30)])], &[(2, 0.5)]), Some(2));
        assert_eq!(run(&[(0, &[])], &[]), None);
    }
}
