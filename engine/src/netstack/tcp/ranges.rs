//! A set of positions in a stream, as ranges that neither touch nor overlap.

use std::collections::VecDeque;

/// Ranges in ascending order; each is `(start, end)` without the end.
#[derive(Debug, Default)]
pub struct Ranges {
    ranges: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// How many positions are in the set.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn clear(&mut self) {
        self.ranges = VecDeque::new();
        self.bytes = 0;
    }

    /// Add a range; returns the range of the set that it is now part of, and what was not in the set before.
    pub fn insert(&mut self, start: u64, end: u64, fresh: &mut Vec<(u64, u64)>) -> (u64, u64) {
        fresh.clear();
        let from = self.ranges.partition_point(|&(_, known_end)| known_end < start);
        let (mut merged, mut at, mut until) = ((start, end), start, from);
        while let Some(&(known_start, known_end)) = self.ranges.get(until).filter(|known| known.0 <= end) {
            if at < known_start {
                fresh.push((at, known_start));
            }
            at = at.max(known_end);
            merged = (merged.0.min(known_start), merged.1.max(known_end));
            until += 1;
        }
        if at < end {
            fresh.push((at, end));
        }
        self.bytes += fresh.iter().map(|(start, end)| end - start).sum::<u64>();
        match until - from {
            0 => self.ranges.insert(from, merged),
            1 => self.ranges[from] = merged,
            _ => {
                self.ranges[from] = merged;
                self.ranges.drain(from + 1..until);
            }
        }
        merged
    }

    /// Forget everything before `position`.
    pub fn remove_before(&mut self, position: u64) {
        while let Some(first) = self.ranges.front_mut().filter(|first| first.0 < position) {
            if first.1 > position {
                self.bytes -= position - first.0;
                first.0 = position;
                return;
            }
            self.bytes -= first.1 - first.0;
            self.ranges.pop_front();
        }
    }

    /// The first range.
    pub fn first(&self) -> Option<(u64, u64)> {
        self.ranges.front().copied()
    }

    /// The range that `position` is in.
    pub fn around(&self, position: u64) -> Option<(u64, u64)> {
        let index = self.ranges.partition_point(|&(_, end)| end <= position);
        self.ranges.get(index).copied().filter(|(start, _)| *start <= position)
    }

    /// Whether the whole of a range is in the set.
    #[cfg(test)]
    pub fn contains(&self, start: u64, end: u64) -> bool {
        self.around(start).is_some_and(|(_, known_end)| end <= known_end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    #[test]
    fn what_is_fresh_is_told_once_and_ranges_merge() {
        let (mut ranges, mut fresh) = (Ranges::default(), Vec::new());
        assert_eq!((ranges.insert(10, 20, &mut fresh), &fresh[..]), ((10, 20), &[(10, 20)][..]));
        assert_eq!((ranges.insert(30, 40, &mut fresh), &fresh[..]), ((30, 40), &[(30, 40)][..]));
        assert_eq!((ranges.insert(20, 25, &mut fresh), &fresh[..]), ((10, 25), &[(20, 25)][..]));
        assert_eq!((ranges.insert(5, 45, &mut fresh), &fresh[..]), ((5, 45), &[(5, 10), (25, 30), (40, 45)][..]));
        assert_eq!((ranges.insert(6, 7, &mut fresh), &fresh[..]), ((5, 45), &[][..]));
        assert_eq!((ranges.len(), ranges.bytes(), ranges.contains(5, 45)), (1, 40, true));
        ranges.remove_before(12);
        assert_eq!((ranges.first(), ranges.bytes(), ranges.around(11)), (Some((12, 45)), 33, None));
    }

    #[test]
    fn agrees_with_a_plain_set_of_positions() {
        let mut random = Random::new(7);
        for _ in 0..50 {
            let (mut ranges, mut plain, mut fresh) = (Ranges::default(), [false; 200], Vec::new());
            for _ in 0..60 {
                let start = random.below(190);
                let end = start + 1 + random.below(10);
                if random.below(8) == 0 {
                    ranges.remove_before(start);
                    plain[..start as usize].fill(false);
                    continue;
                }
                ranges.insert(start, end, &mut fresh);
                for (from, to) in &fresh {
                    assert!(plain[*from as usize..*to as usize].iter().all(|held| !held));
                }
                plain[start as usize..end as usize].fill(true);
                assert_eq!(ranges.bytes(), plain.iter().filter(|held| **held).count() as u64);
                for position in 0..200 {
                    assert_eq!(ranges.contains(position, position + 1), plain[position as usize]);
                }
            }
        }
    }
}
