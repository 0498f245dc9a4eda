//! How much a TCP connection may have in flight.
//!
//! smoltcp's own congestion control counts acknowledgements, which come once a batch here, and takes every lost packet
//! for congestion. It is off. This window limits instead what enters the send buffer: it follows what the path was
//! measured to deliver (as BBR does, without its pacing), and yields to loss only when much is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a connection may have in flight before anything was measured.
const INITIAL: usize = 64 << 10;
/// What it may always have in flight.
const FLOOR: usize = 16 << 10;
/// In flight: what the path holds, and as much again for acknowledgements that come in batches.
const GAIN: f64 = 2.0;
/// At the start, when the rate doubles from round to round.
const STARTING_GAIN: f64 = 2.9;
/// Both ends work in batches, which takes time that no idle round trip shows.
const BATCHING: Duration = Duration::from_millis(2);
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
}

/// The congestion window of one connection, in bytes.
#[derive(Debug)]
pub struct Window {
    size: usize,
    starting: bool,
    round: u64,
    rates: VecDeque<(u64, f64)>,
    best_at_round: f64,
    flat_rounds: u32,
    min_rtt: Option<(Duration, Instant)>,
    probing_until: Option<Instant>,
    ceiling: f64,
    delivered: usize,
    lost: usize,
}

impl Window {
    pub fn new() -> Self {
        Self {
            size: INITIAL,
            starting: true,
            round: 0,
            rates: VecDeque::new(),
            best_at_round: 0.0,
            flat_rounds: 0,
            min_rtt: None,
            probing_until: None,
            ceiling: f64::INFINITY,
            delivered: 0,
            lost: 0,
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
        (self.min_rtt, self.ceiling, self.starting) = (None, f64::INFINITY, true);
        (self.best_at_round, self.flat_rounds) = (0.0, 0);
        self.rates.clear();
        self.size = self.size.min(4 * INITIAL);
    }

    /// Note that bytes were lost.
    pub fn lost(&mut self, bytes: usize) {
        self.lost += bytes;
    }

    /// Nothing came back for long: begin anew.
    pub fn timed_out(&mut self) {
        self.size = FLOOR;
    }

    /// Learn from an acknowledgement; `limit` is the most that may ever be in flight.
    pub fn acknowledged(&mut self, now: Instant, sample: &Sample, limit: usize) {
        self.delivered += sample.newly;
        self.measure_rtt(now, sample.rtt);
        self.measure_rate(sample);
        if sample.round {
            self.end_round(sample.idle);
        }
        let grown = self.size + sample.newly;
        let wanted = match self.target() {
            // An application that sends little does not open the window.
            _ if self.starting && sample.idle => self.size,
            Some(target) if self.starting => grown.min((target as usize).max(INITIAL)),
            Some(target) => grown.min(target as usize),
            None => grown,
        };
        self.size = wanted.clamp(FLOOR, limit.max(FLOOR));
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
        let best = self.rate();
        if sample.idle && rate < best {
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

    fn rate(&self) -> f64 {
        self.rates.front().map_or(0.0, |(_, rate)| *rate)
    }

    fn end_round(&mut self, idle: bool) {
        self.round += 1;
        let sent = (self.delivered + self.lost).max(1) as f64;
        let share = self.lost as f64 / sent;
        (self.delivered, self.lost) = (0, 0);
        if share > TOO_MUCH_LOSS {
            self.starting = false;
            self.ceiling = (self.size as f64 * CEILING_CUT).max(FLOOR as f64);
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
        }
    }

    /// What should be in flight, once the path was measured.
    fn target(&self) -> Option<f64> {
        let rtt = self.min_rtt()?;
        let rate = self.rate();
        if rate <= 0.0 {
            return None;
        }
        let holds = rate * rtt.as_secs_f64();
        if self.probing_until.is_some() {
            return Some(holds / 2.0);
        }
        let gain = if self.starting { STARTING_GAIN } else { GAIN };
        Some((gain * rate * (rtt + BATCHING).as_secs_f64()).min(self.ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64 << 20;

    /// Acknowledge full windows on a path of `rate` bytes a second with a round trip of `rtt`.
    fn drive(window: &mut Window, start: Instant, rounds: u32, rate: f64, rtt: Duration, loss: f64) -> Instant {
        let mut now = start;
        for _ in 0..rounds {
            let sent = window.size();
            let interval = rtt.max(Duration::from_secs_f64(sent as f64 / rate));
            now += interval;
            window.lost((sent as f64 * loss) as usize);
            let (newly, delivered) = (sent, sent as u64);
            let sample = Sample { newly, delivered, interval, rtt: Some(interval), round: true, idle: false };
            window.acknowledged(now, &sample, LIMIT);
        }
        now
    }

    #[test]
    fn settles_at_twice_what_the_path_holds() {
        let (mut window, rtt) = (Window::new(), Duration::from_millis(20));
        drive(&mut window, Instant::now(), 40, 12.5e6, rtt, 0.0);
        let holds = 12.5e6 * 0.020;
        assert!((1.5 * holds..2.6 * holds).contains(&(window.size() as f64)), "{}", window.size());
    }

    #[test]
    fn one_percent_of_loss_does_not_matter_and_ten_percent_do() {
        let rtt = Duration::from_millis(20);
        let (mut clean, mut light, mut heavy) = (Window::new(), Window::new(), Window::new());
        for (window, loss) in [(&mut clean, 0.0), (&mut light, 0.01), (&mut heavy, 0.10)] {
            drive(window, Instant::now(), 60, 12.5e6, rtt, loss);
        }
        assert!(light.size() * 10 > clean.size() * 9, "{} {}", light.size(), clean.size());
        assert!(heavy.size() * 2 < clean.size(), "{} {}", heavy.size(), clean.size());
    }

    #[test]
    fn an_application_that_sends_little_does_not_open_the_window() {
        let mut window = Window::new();
        let interval = Duration::from_millis(20);
        let sample = Sample { newly: 100, delivered: 100, interval, rtt: Some(interval), round: true, idle: true };
        for _ in 0..100 {
            window.acknowledged(Instant::now(), &sample, LIMIT);
        }
        assert_eq!(window.size(), INITIAL);
    }

    #[test]
    fn never_passes_the_limit() {
        let mut window = Window::new();
        let interval = Duration::from_millis(1);
        for _ in 0..100 {
            let newly = window.size();
            let sample =
                Sample { newly, delivered: newly as u64, interval, rtt: Some(interval), round: true, idle: false };
            window.acknowledged(Instant::now(), &sample, 512 << 10);
        }
        assert!(window.size() <= 512 << 10);
    }

    #[test]
    fn another_path_is_measured_anew() {
        let mut window = Window::new();
        let now = drive(&mut window, Instant::now(), 40, 125e6, Duration::from_micros(500), 0.0);
        window.forget_path();
        drive(&mut window, now, 40, 12.5e6, Duration::from_millis(50), 0.0);
        let holds = 12.5e6 * 0.050;
        assert!((1.5 * holds..2.6 * holds).contains(&(window.size() as f64)), "{}", window.size());
    }
}
