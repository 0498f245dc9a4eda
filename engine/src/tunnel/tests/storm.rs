//! Two sessions over a line that loses, repeats, delays and reorders, with restarts, sleeps and minutes of silence.

use std::collections::{BTreeMap, HashSet};

use super::*;

const STEP: Duration = milliseconds(100);

struct Storm {
    now: Instant,
    sides: [Side; 2],
    /// When it arrives, and a number that keeps those of one moment apart.
    line: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    steps: u64,
    arrived: HashSet<u64>,
    /// When each side began its last handshakes.
    begun: [Vec<Instant>; 2],
    bad: bool,
}

fn draw(below: u64) -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes) % below
}

impl Storm {
    fn new(seed: u64) -> Self {
        SEED.set(seed);
        let (left, right) = pair();
        Self {
            now: Instant::now(),
            sides: [left, right],
            line: BTreeMap::new(),
            sent: 0,
            steps: 0,
            arrived: HashSet::new(),
            begun: [Vec::new(), Vec::new()],
            bad: true,
        }
    }

    /// Put a message on the line.
    fn transmit(&mut self, from: usize, message: Vec<u8>) {
        if initiates(&message) {
            self.begun[from].push(self.now);
        }
        if self.bad && draw(10) < 3 {
            return;
        }
        for _ in 0..if self.bad && draw(10) == 0 { 2 } else { 1 } {
            let delay = milliseconds(10 + if self.bad { draw(800) } else { 0 });
            self.sent += 1;
            self.line.insert((self.now + delay, self.sent), (1 - from, message.clone()));
        }
    }

    /// Send a packet with a number; returns the number.
    fn send(&mut self, from: usize) -> u64 {
        self.sent += 1;
        let (number, mut packet) = (self.sent, inner(48));
        packet[40..].copy_from_slice(&number.to_be_bytes());
        if let Some(message) = self.sides[from].seal(self.now, &packet) {
            self.transmit(from, message);
        }
        number
    }

    fn deliver(&mut self, to: usize, message: &[u8]) {
        let mut out = vec![0; 2048];
        match self.sides[to].0.open(self.now, message, &mut out) {
            Opened::Packet(length) => {
                let number = u64::from_be_bytes(*out[length - 8..length].first_chunk().expect("a number"));
                assert!(self.arrived.insert(number), "{number} arrived twice");
            }
            Opened::Reply(length) => self.transmit(to, out[..length].to_vec()),
            Opened::Nothing | Opened::Rejected => {}
        }
        while let Some(message) = self.sides[to].next_waiting(self.now) {
            self.transmit(to, message);
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.steps += 1;
        WALL.set(WALL.get() + STEP);
        while let Some(entry) = self.line.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, message) = entry.remove();
            self.deliver(to, &message);
        }
        for side in 0..2 {
            if self.steps.is_multiple_of(10) {
                if let Some(message) = self.sides[side].tick(self.now) {
                    self.transmit(side, message);
                }
            }
        }
    }

    fn weather(&mut self) {
        for side in 0..2 {
            if draw(3) == 0 {
                self.send(side);
            }
        }
        match draw(2_000) {
            0 => self.now += seconds(draw(400)),
            1 => self.sides[draw(2) as usize].0.restart(draw(1 << 24) as u32),
            2 => self.sides[draw(2) as usize].0.slept(seconds(draw(400))),
            3 => WALL.set(WALL.get() - seconds(100)),
            _ => {}
        }
    }
}

#[test]
fn nothing_arrives_twice_and_good_weather_mends_everything() {
    for seed in 1..=12 {
        let mut storm = Storm::new(seed);
        for _ in 0..6_000 {
            storm.step();
            storm.weather();
        }
        assert!(storm.arrived.len() > 1_000, "seed {seed}: only {} arrived", storm.arrived.len());
        for begun in &storm.begun {
            let often = begun.windows(3).filter(|three| three[2] - three[0] < seconds(5)).count();
            assert!(often * 10 < begun.len(), "seed {seed}: {often} of {} too close together", begun.len());
        }
        storm.bad = false;
        let (mut last, until) = ([0; 2], storm.now + seconds(25));
        while storm.now < until {
            storm.step();
            if storm.steps.is_multiple_of(5) {
                last = [storm.send(0), storm.send(1)];
            }
        }
        storm.step();
        storm.step();
        assert!(last.iter().all(|number| storm.arrived.contains(number)), "seed {seed}: silent after the storm");
    }
}
