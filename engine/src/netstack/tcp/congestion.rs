//! How much a connection may have in flight, and how fast it may send.
//!
//! As BBR does, this follows what the path was measured to deliver: the best rate of the last rounds and the shortest
//! round trip. A lost packet alone says nothing; only when much is lost does a ceiling come down.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a connection may have in flight before anything was measured.
const INITIAL: usize = 64 << 10;
/// What it may always have in flight.
const FLOOR: usize = 16 << 10;
/// In flight: what the path holds, and as much again for acknowledgements that come in batches.
const GAIN: f64 = 2.0;
/// At the start, when the rate doubles from round to round: in flight, and the pace (2 / ln 2).
const STARTING_GAIN: f64 = 2.3;
const STARTING_PACE: f64 = 2.89;
/// Both ends work in batches, which takes time that no idle round trip shows.
const BATCHING: Duration = Duration::from_millis(2);
/// Sending speed against the measured rate, round after round: look for more, give back what that piled up, cruise.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// The best rate of so many rounds counts.
const RATE_ROUNDS: u64 = 10;
/// The shortest round trip counts for this long; then the path is emptied for a moment to see it again.
const RTT_MEMORY: Duration = Duration::from_secs(10);
const PROBE_LENGTH: Duration = Duration::from_millis(200);
/// The start is over when the rate grew by less than a quarter in this many rounds.
const FLAT_ROUNDS: u32 = 3;
/// More loss than this share of a round means that the path is too full.
const TOO_MUCH_LOSS: f64 = 0.08;
/// What stays of the ceiling after such a round, and by how much a good round raises it.
const CEILING_CUT: f64 = 0.8;
const CEILING_RAISE: f64 = 1.125;
/// On a shorter path acknowledgements alone keep time: a timer would be coarser than the path.
const SHORTEST_PACED: Duration = Duration::from_millis(2);
/// What may leave at once: as much as a timer's step brings, and some packets in any case.
const PACING_STEP: Duration = Duration::from_millis(2);
const SMALLEST_BURST: f64 = 16e3;
/// A thread that did not get its turn for so long catches up; else a busy machine would seem a slow path.
const MOST_CAUGHT_UP: Duration = Duration::from_millis(100);
/// Acknowledgements that came in a lump count as such for so many rounds, up to what the path delivers in so long.
const LUMP_ROUNDS: u64 = 10;
const LARGEST_LUMP: Duration = Duration::from_millis(100);
/// A lump is at most what the path holds, or this: the buffers of UDP sockets take no more.
const ANY_LUMP: f64 = 4e6;

/// What was delivered, as an acknowledgement shows it.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Bytes that this acknowledgement newly covers.
    pub newly: usize,
    /// Bytes delivered between the sending of a segment and its delivery, and how long that took.
    pub delivered: u64,
    pub interval: Duration,
    /// The round trip of the segment sent last, if it was sent only once.
    pub rtt: Option<Duration>,
    /// Whether a round trip has passed since the last sample that said so.
    pub round: bool,
    /// The application had nothing to send, so the rate says little.
    pub idle: bool,
    /// Bytes still in flight.
    pub in_flight: usize,
}

/// The congestion window of one connection, in bytes, and its pace.
#[derive(Debug)]
pub struct Congestion {
    size: usize,
    starting: bool,
    draining: bool,
    round: u64,
    rates: VecDeque<(u64, f64)>,
    best_at_round: f64,
    flat_rounds: u32,
    min_rtt: Option<(Duration, Instant)>,
    probing_until: Option<Instant>,
    ceiling: f64,
    delivered: usize,
    lost: usize,
    phase: usize,
    phase_began_at: Option<Instant>,
    /// Bytes that may leave now, and when that was last counted.
    credit: f64,
    counted_at: Option<Instant>,
    lumps: Lumps,
}

/// By how much acknowledgements ran ahead of the rate: they came in a lump, after something had held them up.
#[derive(Debug, Default)]
struct Lumps {
    began_at: Option<Instant>,
    acknowledged: f64,
    /// The largest of this span of rounds and of the one before, and the round in which this one began.
    largest: [f64; 2],
    round: u64,
}

impl Lumps {
    fn acknowledged(&mut self, now: Instant, newly: usize, rate: f64, round: u64) {
        if round >= self.round + LUMP_ROUNDS / 2 {
            (self.largest, self.round) = ([0.0, self.largest[0]], round);
        }
        let passed = now.saturating_duration_since(*self.began_at.get_or_insert(now)).as_secs_f64();
        let mut expected = rate * passed;
        if self.acknowledged <= expected {
            (self.began_at, self.acknowledged, expected) = (Some(now), 0.0, 0.0);
        }
        self.acknowledged += newly as f64;
        let ahead = (self.acknowledged - expected).min(rate * LARGEST_LUMP.as_secs_f64());
        self.largest[0] = self.largest[0].max(ahead);
    }

    fn largest(&self) -> f64 {
        self.largest[0].max(self.largest[1])
    }
}

impl Congestion {
    pub fn new() -> Self {
        Self {
            size: INITIAL,
            starting: true,
            draining: false,
            round: 0,
            rates: VecDeque::new(),
            best_at_round: 0.0,
            flat_rounds: 0,
            min_rtt: None,
            probing_until: None,
            ceiling: f64::INFINITY,
            delivered: 0,
            lost: 0,
            phase: 2,
            phase_began_at: None,
            credit: 0.0,
            counted_at: None,
            lumps: Lumps::default(),
        }
    }

    /// How many bytes may be in flight.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The shortest round trip seen lately.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.map(|(rtt, _)| rtt)
    }

    /// The path is another: what was measured says nothing about it.
    pub fn forget_path(&mut self) {
        *self = Self { size: self.size.min(4 * INITIAL), round: self.round, ..Self::new() };
    }

    /// Note that bytes were lost.
    pub fn lost(&mut self, bytes: usize) {
        self.lost += bytes;
    }

    /// Note that bytes that were taken for lost had only been late.
    pub fn found(&mut self, bytes: usize) {
        self.lost = self.lost.saturating_sub(bytes);
    }

    /// Nothing came back for long: begin anew from what is in flight.
    pub fn timed_out(&mut self) {
        self.size = FLOOR;
    }

    /// Learn from an acknowledgement.
    pub fn acknowledged(&mut self, now: Instant, sample: &Sample) {
        self.delivered += sample.newly;
        self.measure_rtt(now, sample.rtt);
        self.measure_rate(sample);
        if sample.round {
            self.end_round(sample.idle);
        }
        self.turn_cycle(now, sample.in_flight);
        self.lumps.acknowledged(now, sample.newly, self.rate(), self.round);
        let grown = self.size + sample.newly;
        let wanted = match self.target() {
            // An application that sends little does not open the window.
            _ if self.starting && sample.idle => self.size,
            Some(target) if self.starting => grown.min((target as usize).max(INITIAL)),
            Some(target) => grown.min(target as usize),
            None => grown,
        };
        self.size = wanted.max(FLOOR);
    }

    fn measure_rtt(&mut self, now: Instant, rtt: Option<Duration>) {
        let Some(rtt) = rtt else { return };
        match self.min_rtt {
            Some((shortest, at)) if rtt > shortest => {
                if self.probing_until.is_some_and(|until| now >= until) {
                    (self.min_rtt, self.probing_until) = (Some((rtt, now)), None);
                } else if self.probing_until.is_none() && now.saturating_duration_since(at) > RTT_MEMORY {
                    self.probing_until = Some(now + PROBE_LENGTH);
                }
            }
            _ => (self.min_rtt, self.probing_until) = (Some((rtt, now)), None),
        }
    }

    fn measure_rate(&mut self, sample: &Sample) {
        let seconds = sample.interval.as_secs_f64();
        if seconds <= 0.0 || self.min_rtt().is_some_and(|rtt| sample.interval < rtt) {
            return;
        }
        let rate = sample.delivered as f64 / seconds;
        if sample.idle && rate < self.rate() {
            return;
        }
        while self.rates.back().is_some_and(|(_, older)| *older <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((self.round, rate));
        while self.rates.front().is_some_and(|(round, _)| self.round.saturating_sub(*round) > RATE_ROUNDS) {
            self.rates.pop_front();
        }
    }

    /// The best rate measured lately, in bytes a second.
    fn rate(&self) -> f64 {
        self.rates.front().map_or(0.0, |(_, rate)| *rate)
    }

    fn end_round(&mut self, idle: bool) {
        self.round += 1;
        let sent = (self.delivered + self.lost).max(1) as f64;
        let share = self.lost as f64 / sent;
        (self.delivered, self.lost) = (0, 0);
        if share > TOO_MUCH_LOSS {
            (self.draining, self.starting) = (self.starting, false);
            // What the path itself holds, without its queue, is never too much.
            let holds = self.rate() * self.min_rtt().unwrap_or_default().as_secs_f64();
            self.ceiling = (self.size as f64 * CEILING_CUT).max(holds).max(FLOOR as f64);
        } else if self.ceiling.is_finite() {
            self.ceiling *= CEILING_RAISE;
        }
        if !self.starting || idle {
            return;
        }
        if self.rate() >= self.best_at_round * 1.25 {
            (self.best_at_round, self.flat_rounds) = (self.rate(), 0);
        } else {
            self.flat_rounds += 1;
            self.starting = self.flat_rounds < FLAT_ROUNDS;
            self.draining = !self.starting;
        }
    }

    /// Go on to the next speed of the cycle when it is time.
    fn turn_cycle(&mut self, now: Instant, in_flight: usize) {
        let Some(rtt) = self.min_rtt() else { return };
        let holds = self.rate() * rtt.as_secs_f64();
        self.draining &= in_flight as f64 > holds;
        if self.starting || self.draining {
            return;
        }
        let began_at = *self.phase_began_at.get_or_insert(now);
        let emptied = self.phase == 1 && in_flight as f64 <= holds;
        if now.saturating_duration_since(began_at) > rtt || emptied {
            (self.phase, self.phase_began_at) = ((self.phase + 1) % CYCLE.len(), Some(now));
        }
    }

    /// What should be in flight, once the path was measured.
    fn target(&self) -> Option<f64> {
        let rtt = self.min_rtt()?;
        let rate = self.rate();
        if rate <= 0.0 {
            return None;
        }
        if self.probing_until.is_some() {
            return Some(rate * rtt.as_secs_f64() / 2.0);
        }
        let gain = if self.starting { STARTING_GAIN } else { GAIN };
        let lump = self.lumps.largest().min((rate * rtt.as_secs_f64()).max(ANY_LUMP));
        let wanted = gain * rate * (rtt + BATCHING).as_secs_f64() + lump;
        Some(wanted.min(self.ceiling))
    }

    /// Bytes a second that may leave; `None` while that is left to acknowledgements.
    fn pace(&self) -> Option<f64> {
        let rate = self.rate();
        if rate <= 0.0 || self.min_rtt()? < SHORTEST_PACED {
            return None;
        }
        let gain = match () {
            () if self.starting => STARTING_PACE,
            () if self.draining => 1.0 / STARTING_PACE,
            () => CYCLE[self.phase],
        };
        Some(gain * rate)
    }

    /// Whether something may leave now, as far as the pace goes.
    pub fn may_send(&mut self, now: Instant) -> bool {
        let Some(pace) = self.pace() else { return true };
        let passed = self.counted_at.map_or(PACING_STEP, |at| now.saturating_duration_since(at));
        let most = (pace * MOST_CAUGHT_UP.as_secs_f64()).max(SMALLEST_BURST);
        self.credit = (self.credit + pace * passed.as_secs_f64()).min(most);
        self.counted_at = Some(now);
        self.credit > 0.0
    }

    /// Nothing waits: what was not sent is not caught up later.
    pub fn idle(&mut self) {
        let burst = self.pace().map_or(0.0, |pace| pace * PACING_STEP.as_secs_f64()).max(SMALLEST_BURST);
        self.credit = self.credit.min(burst);
    }

    /// Note that bytes left.
    pub fn sent(&mut self, bytes: usize) {
        if self.pace().is_some() {
            self.credit -= bytes as f64;
        }
    }

    /// When something may leave again after `may_send` said no.
    pub fn send_at(&self, now: Instant) -> Instant {
        let wait = self.pace().map_or(0.0, |pace| (-self.credit).max(0.0) / pace);
        now + Duration::from_secs_f64(wait.min(1.0)) + PACING_STEP / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledgements in which a round trip's worth comes.
    const PARTS: u32 = 64;

    /// Acknowledge full windows on a path of `rate` bytes a second with a round trip of `rtt`.
    fn drive(it: &mut Congestion, start: Instant, rounds: u32, rate: f64, rtt: Duration, loss: f64) -> Instant {
        let mut now = start;
        for part in 0..rounds * PARTS {
            let sent = it.size();
            let interval = rtt.max(Duration::from_secs_f64(sent as f64 / rate));
            now += interval / PARTS;
            let newly = sent / PARTS as usize;
            it.lost((newly as f64 * loss) as usize);
            let (delivered, rtt, round) = (sent as u64, Some(interval), part % PARTS == 0);
            it.acknowledged(now, &Sample { newly, delivered, interval, rtt, round, idle: false, in_flight: 0 });
        }
        now
    }

    #[test]
    fn settles_at_twice_what_the_path_holds() {
        let (mut congestion, rtt) = (Congestion::new(), Duration::from_millis(20));
        drive(&mut congestion, Instant::now(), 40, 12.5e6, rtt, 0.0);
        let holds = 12.5e6 * 0.020;
        assert!((1.5 * holds..2.6 * holds).contains(&(congestion.size() as f64)), "{}", congestion.size());
    }

    #[test]
    fn one_percent_of_loss_does_not_matter_and_ten_percent_do() {
        let rtt = Duration::from_millis(20);
        let (mut clean, mut light, mut heavy) = (Congestion::new(), Congestion::new(), Congestion::new());
        for (congestion, loss) in [(&mut clean, 0.0), (&mut light, 0.01), (&mut heavy, 0.10)] {
            drive(congestion, Instant::now(), 60, 12.5e6, rtt, loss);
        }
        assert!(light.size() * 10 > clean.size() * 9, "{} {}", light.size(), clean.size());
        assert!(heavy.size() * 2 < clean.size(), "{} {}", heavy.size(), clean.size());
    }

    #[test]
    fn an_application_that_sends_little_does_not_open_the_window() {
        let mut congestion = Congestion::new();
        let interval = Duration::from_millis(20);
        let (newly, delivered, rtt) = (100, 100, Some(interval));
        let sample = Sample { newly, delivered, interval, rtt, round: true, idle: true, in_flight: 0 };
        for _ in 0..100 {
            congestion.acknowledged(Instant::now(), &sample);
        }
        assert_eq!(congestion.size(), INITIAL);
    }

    #[test]
    fn the_pace_follows_the_rate_and_bursts_are_bounded() {
        let (mut congestion, rtt, rate) = (Congestion::new(), Duration::from_millis(20), 12.5e6);
        let mut now = drive(&mut congestion, Instant::now(), 40, rate, rtt, 0.0);
        let (began, mut left, mut largest) = (now, 0, 0);
        while now.duration_since(began) < Duration::from_secs(1) {
            let mut burst = 0;
            while congestion.may_send(now) {
                congestion.sent(1220);
                burst += 1220;
            }
            (left, largest) = (left + burst, largest.max(burst));
            now = congestion.send_at(now);
        }
        assert!((0.7 * rate..1.3 * rate).contains(&(left as f64)), "{left}");
        assert!((largest as f64) < 0.004 * rate, "{largest}");
    }

    #[test]
    fn acknowledgements_in_lumps_widen_the_window() {
        let (mut smooth, rtt) = (Congestion::new(), Duration::from_millis(20));
        let mut now = drive(&mut smooth, Instant::now(), 40, 12.5e6, rtt, 0.0);
        let before = smooth.size();
        for _ in 0..40 {
            // 60 ms of silence, then all of it at once.
            let (newly, interval) = (750_000, Duration::from_millis(60));
            now += interval;
            let (delivered, rtt) = (newly as u64, Some(interval));
            smooth
                .acknowledged(now, &Sample { newly, delivered, interval, rtt, round: true, idle: false, in_flight: 0 });
        }
        assert!(smooth.size() > before + 500_000, "{} {before}", smooth.size());
    }

    #[test]
    fn another_path_is_measured_anew() {
        let mut congestion = Congestion::new();
        let now = drive(&mut congestion, Instant::now(), 40, 125e6, Duration::from_micros(500), 0.0);
        congestion.forget_path();
        drive(&mut congestion, now, 40, 12.5e6, Duration::from_millis(50), 0.0);
        let holds = 12.5e6 * 0.050;
        assert!((1.5 * holds..2.6 * holds).contains(&(congestion.size() as f64)), "{}", congestion.size());
    }
}
