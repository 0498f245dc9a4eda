//! What a connection has in flight, and what of it was lost (RFC 2018, RFC 2883, RFC 8985).
//!
//! Every segment sent has a record, in the order of the stream. A second queue names them in the order of their
//! sending, so that looking for losses costs as much as there are losses, not as much as is in flight.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::congestion::Sample;
use super::ranges::Ranges;

/// A segment is lost at once when this many later ones arrived, unless the path is known to reorder.
const OVERTAKEN_BY: usize = 3;
/// How long an overtaken segment may be late: a part of the round trip, but at least this.
const MIN_LATE: Duration = Duration::from_millis(1);
/// Patience with a path that reorders grows up to so many quarters of a round trip.
const MOST_QUARTERS: u32 = 4;

/// A segment in flight.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: u64,
    end: u64,
    sent_at: Instant,
    /// How often it was sent.
    times: u32,
    arrived: bool,
    lost: bool,
    /// What had been delivered, and when, when it was sent: the base of a rate.
    delivered: u64,
    delivered_at: Instant,
    flight_began_at: Instant,
    idle: bool,
}

/// A sending of a segment.
#[derive(Debug, Clone, Copy)]
struct Sending {
    at: Instant,
    number: u64,
    times: u32,
}

/// The proof of delivery that belongs to the latest sending.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sent_at: Instant,
    end: u64,
    rtt: Duration,
}

/// What deliveries so far have shown.
#[derive(Debug, Default)]
struct Proof {
    delivered: u64,
    delivered_at: Option<Instant>,
    flight_began_at: Option<Instant>,
    round_ends_at: u64,
    newest: Option<Newest>,
    reorders: bool,
    min_rtt: Option<Duration>,
}

/// What one acknowledgement showed.
#[derive(Debug, Default)]
pub struct Outcome {
    pub newly: usize,
    pub sample: Option<Sample>,
    /// Bytes that were taken for lost and had only been late.
    pub found: usize,
}

/// Everything in flight on one connection.
#[derive(Debug, Default)]
pub struct Flight {
    records: VecDeque<Record>,
    /// The number of the first record.
    first: u64,
    sendings: VecDeque<Sending>,
    lost: VecDeque<u64>,
    arrived: Ranges,
    /// How many records arrived out of order and still stand here.
    arrived_records: usize,
    in_flight: usize,
    proof: Proof,
    quarters: u32,
    late_at: Option<Instant>,
    fresh: Vec<(u64, u64)>,
}

impl Record {
    fn length(&self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Flight {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes that are neither known to have arrived nor taken for lost.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes that arrived behind a gap.
    pub fn arrived(&self) -> usize {
        self.arrived.bytes() as usize
    }

    /// Bytes delivered since the connection began.
    pub fn delivered(&self) -> u64 {
        self.proof.delivered
    }

    /// Whether losses are being repaired.
    pub fn repairing(&self) -> bool {
        !self.lost.is_empty() || !self.arrived.is_empty()
    }

    /// When `find_lost` has something to do that no acknowledgement brings.
    pub fn late_at(&self) -> Option<Instant> {
        self.late_at
    }

    /// The path is another: its times say nothing about this one.
    pub fn forget_path(&mut self) {
        (self.proof.newest, self.proof.reorders, self.proof.min_rtt) = (None, false, None);
        (self.quarters, self.late_at) = (0, None);
    }

    /// Note a segment that is sent for the first time.
    pub fn push(&mut self, now: Instant, start: u64, end: u64, idle: bool) {
        let proof = &mut self.proof;
        if self.records.is_empty() {
            (proof.flight_began_at, proof.delivered_at) = (Some(now), Some(now));
        }
        self.sendings.push_back(Sending { at: now, number: self.first + self.records.len() as u64, times: 1 });
        self.records.push_back(Record {
            start,
            end,
            sent_at: now,
            times: 1,
            arrived: false,
            lost: false,
            delivered: proof.delivered,
            delivered_at: proof.delivered_at.unwrap_or(now),
            flight_began_at: proof.flight_began_at.unwrap_or(now),
            idle,
        });
        self.in_flight += (end - start) as usize;
    }

    /// Take in an acknowledgement of everything before `position` and of `blocks` behind it.
    pub fn acknowledge(&mut self, now: Instant, position: u64, blocks: &[(u64, u64)]) -> Outcome {
        let mut outcome = Outcome::default();
        let known = self.proof.newest;
        while let Some(record) = self.records.front().copied().filter(|first| first.end <= position) {
            self.records.pop_front();
            self.first += 1;
            if record.arrived {
                self.arrived_records -= 1;
            } else {
                self.settle(now, &record, known, &mut outcome);
            }
        }
        self.arrived.remove_before(position);
        if let Some(first) = self.records.front_mut().filter(|first| first.start < position) {
            let part = (position - first.start) as usize; // the peer took a part of a segment
            first.start = position;
            if !first.lost && !first.arrived {
                self.in_flight -= part;
            }
        }
        for (start, end) in blocks.iter().copied().filter(|(start, end)| start < end && *start >= position) {
            self.acknowledge_block(now, start, end, known, &mut outcome);
        }
        if outcome.newly > 0 {
            self.proof.delivered_at = Some(now);
        }
        if self.records.is_empty() {
            self.late_at = None;
            (self.sendings, self.lost) = (VecDeque::new(), VecDeque::new());
            self.records = VecDeque::new(); // an idle connection holds no memory
            self.arrived.clear();
        }
        outcome
    }

    fn acknowledge_block(&mut self, now: Instant, start: u64, end: u64, known: Option<Newest>, outcome: &mut Outcome) {
        if self.records.back().is_none_or(|last| end > last.end) {
            return; // nothing of ours
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let merged = self.arrived.insert(start, end, &mut fresh);
        for (from, to) in fresh.iter().copied() {
            let mut index = self.records.partition_point(|record| record.end <= from);
            while let Some(record) = self.records.get(index).copied().filter(|record| record.start < to) {
                if !record.arrived && merged.0 <= record.start && record.end <= merged.1 {
                    self.records[index].arrived = true;
                    self.arrived_records += 1;
                    self.settle(now, &record, known, outcome);
                }
                index += 1;
            }
        }
        self.fresh = fresh;
    }

    /// A segment was delivered that had not been before.
    fn settle(&mut self, now: Instant, record: &Record, known: Option<Newest>, outcome: &mut Outcome) {
        outcome.newly += record.length();
        if record.lost {
            outcome.found += record.length(); // it comes before it was sent again
            self.proof.reorders = true;
        } else {
            self.in_flight -= record.length();
        }
        self.proof.arrive(now, record, known, outcome);
    }

    /// A round trip has ended, as a sample said: the next ends when what is sent from now on was delivered.
    pub fn end_round(&mut self) {
        self.proof.round_ends_at = self.proof.delivered;
    }

    /// A segment came twice.
    pub fn duplicated(&mut self) {
        self.proof.reorders = true;
        self.quarters = (self.quarters + 1).min(MOST_QUARTERS);
    }

    /// How long an overtaken segment may be late.
    fn patience(&self, smooth: Option<Duration>) -> Duration {
        if !self.proof.reorders && self.arrived_records >= OVERTAKEN_BY {
            return Duration::ZERO;
        }
        let quarter = self.proof.min_rtt.unwrap_or_default() / 4;
        let patience = quarter * self.quarters.clamp(1, MOST_QUARTERS);
        patience.min(smooth.unwrap_or(patience)).max(MIN_LATE)
    }

    /// Mark what later sendings overtook; returns how many bytes that were.
    pub fn find_lost(&mut self, now: Instant, smooth: Option<Duration>) -> usize {
        self.late_at = None;
        let Some(newest) = self.proof.newest else { return 0 };
        let patience = self.patience(smooth);
        let mut bytes = 0;
        while let Some(sending) = self.sendings.front().copied() {
            let Some(record) = self.standing(sending) else {
                self.sendings.pop_front();
                continue;
            };
            let overtaken = sending.at < newest.sent_at || (sending.at == newest.sent_at && record.end < newest.end);
            if !overtaken {
                break;
            }
            // The time of a segment sent again says less: the machines themselves are not punctual.
            let extra = if record.times > 1 { smooth.unwrap_or_default() / 4 } else { Duration::ZERO };
            let due = sending.at + newest.rtt + patience.max(extra);
            if due > now {
                self.late_at = Some(due);
                break;
            }
            self.sendings.pop_front();
            bytes += self.lose(sending.number);
        }
        bytes
    }

    /// The record that a sending is about, if that is still the last that is known of it.
    fn standing(&self, sending: Sending) -> Option<&Record> {
        let index = sending.number.checked_sub(self.first)?;
        let record = self.records.get(index as usize)?;
        (record.times == sending.times && !record.arrived && !record.lost).then_some(record)
    }

    fn lose(&mut self, number: u64) -> usize {
        let record = &mut self.records[(number - self.first) as usize];
        record.lost = true;
        self.in_flight -= record.length();
        self.lost.push_back(number);
        record.length()
    }

    /// Nothing came back for long: the first segment is lost, and whatever should have been acknowledged by now.
    pub fn time_out(&mut self, now: Instant, smooth: Option<Duration>) -> usize {
        if self.records.front().is_some_and(|first| first.arrived) {
            self.distrust(); // the peer threw away what it said it had
        }
        let late = smooth.unwrap_or_default() + self.patience(smooth);
        let mut bytes = 0;
        for index in 0..self.records.len() {
            let record = self.records[index];
            let due = index == 0 || record.sent_at + late <= now;
            if due && !record.arrived && !record.lost {
                bytes += self.lose(self.first + index as u64);
            }
        }
        let records = (self.first..).zip(&self.records).filter(|(_, record)| record.lost);
        self.lost = records.map(|(number, _)| number).collect();
        bytes
    }

    /// Forget what arrived out of order (RFC 2018 §8).
    fn distrust(&mut self) {
        for record in self.records.iter_mut().filter(|record| record.arrived) {
            record.arrived = false;
            self.in_flight += record.length();
        }
        self.arrived_records = 0;
        self.arrived.clear();
    }

    /// The next segment to send again: where it starts and ends.
    pub fn next_lost(&mut self) -> Option<(u64, u64)> {
        loop {
            let number = *self.lost.front()?;
            let index = number.checked_sub(self.first).map(|index| index as usize);
            match index.and_then(|index| self.records.get(index)).filter(|record| record.lost && !record.arrived) {
                Some(record) => return Some((record.start, record.end)),
                None => self.lost.pop_front(),
            };
        }
    }

    /// Note that what `next_lost` named was sent.
    pub fn lost_sent(&mut self, now: Instant) {
        if let Some(number) = self.lost.pop_front() {
            self.sent_again(now, number);
        }
    }

    /// The last segment that is not known to have arrived, to be sent as a probe; it is noted as sent.
    pub fn probe(&mut self, now: Instant) -> Option<(u64, u64)> {
        let index = self.records.iter().rposition(|record| !record.arrived)?;
        let Record { start, end, .. } = self.records[index];
        self.sent_again(now, self.first + index as u64);
        Some((start, end))
    }

    fn sent_again(&mut self, now: Instant, number: u64) {
        let Some(record) = self.records.get_mut((number - self.first) as usize) else { return };
        if record.lost {
            self.in_flight += record.length();
        }
        (record.sent_at, record.lost, record.times) = (now, false, record.times + 1);
        (record.delivered, record.delivered_at) = (self.proof.delivered, self.proof.delivered_at.unwrap_or(now));
        record.flight_began_at = self.proof.flight_began_at.unwrap_or(now);
        self.sendings.push_back(Sending { at: now, number, times: record.times });
    }
}

impl Proof {
    /// A segment has arrived; `known` is the newest that had before this acknowledgement.
    fn arrive(&mut self, now: Instant, record: &Record, known: Option<Newest>, outcome: &mut Outcome) {
        self.delivered += record.length() as u64;
        let rtt = now.saturating_duration_since(record.sent_at);
        let again = record.times > 1;
        if again && self.min_rtt.is_some_and(|shortest| rtt < shortest / 2) {
            // An answer so soon is to the first sending: that was late, not lost, and its time is not known.
            (self.reorders, outcome.found) = (true, outcome.found + record.length());
            return;
        }
        // Sent before the newest, never sent again, and yet arrived after it: the path reorders.
        self.reorders |= !again && known.is_some_and(|known| record.end < known.end);
        if !again {
            self.min_rtt = Some(self.min_rtt.map_or(rtt, |shortest| shortest.min(rtt)));
        }
        let newer = |newest: Newest| {
            record.sent_at > newest.sent_at || (record.sent_at == newest.sent_at && record.end > newest.end)
        };
        if !self.newest.is_none_or(newer) {
            return;
        }
        self.newest = Some(Newest { sent_at: record.sent_at, end: record.end, rtt });
        let sending = record.sent_at.saturating_duration_since(record.flight_began_at);
        let interval = now.saturating_duration_since(record.delivered_at).max(sending);
        self.flight_began_at = Some(record.sent_at);
        let round = record.delivered >= self.round_ends_at;
        outcome.sample = Some(Sample {
            newly: 0,
            delivered: self.delivered - record.delivered,
            interval,
            rtt: (!again).then_some(rtt),
            round: round || outcome.sample.is_some_and(|sample| sample.round),
            idle: record.idle,
            in_flight: 0,
        });
    }
}
