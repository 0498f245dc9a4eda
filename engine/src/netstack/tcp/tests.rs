//! Two connections and what lies between them, in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv6Addr;

use super::segment::{Fields, Options};
use super::testing::Random;
use super::*;
use crate::netstack::device::Batch;

const A: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1), 50_000);
const B: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2), 22);
const WINDOW: usize = 64 << 10;

/// What happens to packets on their way.
#[derive(Debug, Clone, Copy)]
struct Weather {
    delay: Duration,
    loss: f64,
    late: f64,
    twice: f64,
}

const CALM: Weather = Weather { delay: Duration::from_millis(10), loss: 0.0, late: 0.0, twice: 0.0 };

/// When a packet arrives, its number, at which end, and the packet.
type Arrival = (Instant, u64, usize, Vec<u8>);

struct Sim {
    now: Instant,
    ends: [Connection; 2],
    sent: [u64; 2],
    received: [u64; 2],
    air: BinaryHeap<Reverse<Arrival>>,
    /// Every packet that was sent, with its sender.
    log: Vec<(usize, Vec<u8>)>,
    count: u64,
    random: Random,
    weather: Weather,
}

/// The byte at a place of the stream that end `from` sends.
fn byte(from: usize, place: u64) -> u8 {
    ((place * 31) ^ (place >> 8) ^ from as u64) as u8
}

impl Sim {
    fn new(seed: u64, window: usize, weather: Weather) -> Self {
        let ends = Ends { local: A, remote: B };
        // Sequence numbers wrap soon.
        let left = Connection::connect(ends, u32::MAX - 5_000, 1280, window);
        let right = Connection::listen(Ends { local: B, remote: A }, u32::MAX - 10, 1280, window);
        Self {
            now: Instant::now(),
            ends: [left, right],
            sent: [0; 2],
            received: [0; 2],
            air: BinaryHeap::new(),
            log: Vec::new(),
            count: 0,
            random: Random::new(seed),
            weather,
        }
    }

    /// A connection that has opened.
    fn open(window: usize) -> Self {
        let mut sim = Self::new(1, window, CALM);
        sim.run(|sim| sim.ends.iter().all(Connection::may_send));
        sim
    }

    fn launch(&mut self, from: usize, packet: Vec<u8>) {
        self.log.push((from, packet.clone()));
        let copies = 1 + usize::from(self.random.chance(self.weather.twice));
        for _ in 0..copies {
            if self.random.chance(self.weather.loss) {
                continue;
            }
            let late = if self.random.chance(self.weather.late) { self.random.below(30) } else { 0 };
            self.count += 1;
            let at = self.now + self.weather.delay + Duration::from_millis(late);
            self.air.push(Reverse((at, self.count, 1 - from, packet.clone())));
        }
    }

    fn transmit(&mut self) {
        for from in 0..2 {
            let mut out = Batch::default();
            while self.ends[from].transmit(self.now, &mut out, usize::MAX) {}
            let packets: Vec<Vec<u8>> = out.packets().map(<[u8]>::to_vec).collect();
            packets.into_iter().for_each(|packet| self.launch(from, packet));
        }
    }

    /// Go to the next thing that happens.
    fn step(&mut self) {
        self.transmit();
        let now = self.now;
        let timers = self.ends.iter_mut().filter_map(|end| end.poll_timeout(now)).min();
        let arrival = self.air.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = timers.into_iter().chain(arrival).min() else { return };
        self.now = self.now.max(next);
        while self.air.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, packet))) = self.air.pop() else { break };
            self.ends[to].receive(self.now, &Segment::parse(&packet).expect("a segment of ours"));
        }
        self.transmit();
    }

    fn run(&mut self, until: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if until(self) {
                return;
            }
            self.step();
        }
        panic!("never: {:?}", self.ends.each_ref().map(Connection::state));
    }

    /// Write up to `count` bytes; returns how many were taken.
    fn write(&mut self, from: usize, count: usize) -> usize {
        let (place, room) = (self.sent[from], self.ends[from].room().min(count));
        if room == 0 {
            return 0;
        }
        let written = self.ends[from].fill(room, |space| {
            let places = (place..).zip(space.iter_mut());
            places.for_each(|(place, room)| *room = byte(from, place));
            (space.len(), space.len())
        });
        self.sent[from] += written as u64;
        written
    }

    /// Read up to `count` bytes and compare them with what was sent.
    fn read(&mut self, at: usize, count: usize) -> usize {
        if !self.ends[at].readable() {
            return 0;
        }
        let place = self.received[at];
        let taken = self.ends[at].take(|bytes| {
            let taken = bytes.len().min(count);
            let right = (place..).zip(&bytes[..taken]).all(|(place, found)| *found == byte(1 - at, place));
            assert!(right, "wrong bytes behind {place}");
            (taken, taken)
        });
        self.received[at] += taken as u64;
        taken
    }

    fn read_all(&mut self, at: usize) {
        while self.read(at, usize::MAX) > 0 {}
    }

    fn over(&self) -> bool {
        self.ends.iter().all(|end| matches!(end.state(), State::TimeWait | State::Closed) && end.drained())
    }

    /// A segment that end `from` could send now.
    fn forge(&self, from: usize, flags: u8, ahead: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Batch::default();
        let mut fields = self.ends[from].fields(self.ends[from].sender.next(), flags, 1000);
        fields.sequence = fields.sequence.wrapping_add(ahead);
        self.ends[from].writer.write(&mut out, fields, &Options::default(), [payload, &[]]);
        only(&out)
    }

    fn deliver(&mut self, to: usize, packet: &[u8]) {
        self.ends[to].receive(self.now, &Segment::parse(packet).expect("a segment"));
    }
}

/// The first packet of a batch.
fn only(out: &Batch) -> Vec<u8> {
    out.packets().next().expect("a packet").to_vec()
}

/// Random networks, windows, readers and writers: every byte arrives in order, and both ends come to an end.
#[test]
fn every_byte_arrives_whatever_the_network_does() {
    for seed in 0..300 {
        let mut dice = Random::new(seed + 1000);
        let weather = Weather {
            delay: Duration::from_micros(100 + dice.below(80_000)),
            loss: dice.below(20) as f64 / 100.0,
            late: dice.below(20) as f64 / 100.0,
            twice: dice.below(10) as f64 / 100.0,
        };
        let window = 2_000 << dice.below(9);
        let totals = [dice.below(200_000), if dice.below(2) == 0 { 0 } else { dice.below(100_000) }];
        let mut sim = Sim::new(seed, window, weather);
        let mut closed = [false; 2];
        let began = sim.now;
        let mut steps = 0;
        while !sim.over() {
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: {:?}", sim.ends.each_ref().map(Connection::state));
            for end in 0..2 {
                let left = (totals[end] - sim.sent[end]) as usize;
                if left > 0 && dice.below(3) > 0 {
                    let most = 1 + dice.below(30_000) as usize;
                    sim.write(end, left.min(most));
                } else if left == 0 && sim.ends[end].may_send() && !closed[end] {
                    sim.ends[end].close();
                    closed[end] = true;
                }
                if dice.below(4) == 0 {
                    let most = 1 + dice.below(20_000) as usize;
                    sim.read(end, most);
                }
                if dice.below(200) == 0 {
                    let mtu = 576 + dice.below(900) as usize;
                    sim.ends[end].set_mtu(mtu);
                }
                if dice.below(500) == 0 {
                    let now = sim.now;
                    sim.ends[end].path_changed(now);
                    sim.ends[1 - end].way_restored(now);
                }
                let (now, growth) = (sim.now, sim.ends[end].wants_growth(sim.now));
                sim.ends[end].grow(growth);
                assert!(!sim.ends[end].given_up(now), "seed {seed}");
                if dice.below(300) == 0 {
                    sim.ends[end].shrink();
                }
            }
            sim.step();
            assert!(sim.now - began < Duration::from_secs(7200), "seed {seed} takes for ever");
        }
        assert_eq!([sim.received[1], sim.received[0]], totals, "seed {seed}");
    }
}

#[test]
fn a_window_that_closes_and_opens_stalls_nothing() {
    let mut sim = Sim::open(WINDOW);
    while sim.write(0, usize::MAX) > 0 {}
    let began = sim.now;
    while sim.now - began < Duration::from_secs(3600) {
        sim.step();
        assert!(!sim.ends[0].given_up(sim.now), "a peer that answers has not gone");
    }
    let probes = sim.log.iter().filter(|(from, packet)| *from == 0 && packet.len() == HEADERS).count();
    assert!((20..1000).contains(&probes), "{probes} questions in an hour");
    let total = sim.sent[0];
    assert!(total < 1 << 20, "{total} bytes wait for a reader that never reads");
    sim.run(|sim| sim.ends[1].readable());
    let back = sim.now;
    while sim.received[1] < total {
        sim.read_all(1);
        sim.step();
        assert!(sim.now - back < Duration::from_secs(40));
    }
}

/// The update that opens a window is lost: the sender asks.
#[test]
fn a_lost_window_update_is_asked_for() {
    let mut sim = Sim::open(WINDOW);
    while sim.write(0, usize::MAX) > 0 {}
    sim.run(|sim| sim.ends[0].sender.next() >= WINDOW as u64);
    let full = sim.now + Duration::from_secs(1);
    while sim.now < full {
        sim.step();
    }
    sim.weather.loss = 1.0;
    sim.read_all(1);
    sim.transmit();
    sim.weather.loss = 0.0;
    let total = sim.sent[0];
    while sim.received[1] < total {
        sim.step();
        sim.read_all(1);
        assert!(sim.now - full < Duration::from_secs(30), "{} of {total}", sim.received[1]);
    }
}

/// A peer offers less than it did, and takes no segment outside of its window, not even what that acknowledges.
#[test]
fn an_acknowledgement_stays_inside_a_window_that_was_taken_back() {
    let mut sim = Sim::open(WINDOW);
    sim.write(0, 3000);
    sim.weather.loss = 1.0;
    sim.transmit();
    sim.log.clear();
    let mut out = Batch::default();
    let fields = sim.ends[1].fields(1, ACK, 0);
    sim.ends[1].writer.write(&mut out, fields, &Options::default(), [b"hello", &[]]);
    sim.deliver(0, &only(&out));
    let asked = sim.now + Duration::from_millis(50);
    while sim.now < asked && !sim.log.iter().any(|(from, _)| *from == 0) {
        sim.step();
    }
    let answer = sim.log.iter().find(|(from, packet)| *from == 0 && packet.len() < HEADERS + 20).expect("an answer");
    let answer = Segment::parse(&answer.1).expect("a segment");
    assert_eq!(answer.sequence, (u32::MAX - 5_000).wrapping_add(1));
    assert_eq!(answer.acknowledgement, (u32::MAX - 10).wrapping_add(6));
}

#[test]
fn a_lost_last_segment_is_sent_again_within_some_round_trips() {
    let mut sim = Sim::open(WINDOW);
    sim.write(0, 5000);
    sim.run(|sim| sim.ends[0].sender.waits() && sim.air.is_empty() || !sim.ends[0].sender.waits());
    sim.weather.loss = 1.0;
    sim.write(0, 100);
    sim.transmit();
    sim.weather.loss = 0.0;
    let began = sim.now;
    let total = sim.sent[0];
    while sim.received[1] < total {
        sim.step();
        sim.read_all(1);
    }
    assert!(sim.now - began < Duration::from_millis(150), "{:?}", sim.now - began);
}

#[test]
fn each_direction_ends_by_itself() {
    let mut sim = Sim::open(WINDOW);
    sim.write(0, 1000);
    sim.ends[0].close();
    sim.run(|sim| sim.ends[1].state() == State::CloseWait);
    assert!(!sim.ends[1].drained() && !sim.ends[0].may_send());
    sim.read_all(1);
    assert!(sim.ends[1].drained());
    let later = sim.now + Duration::from_secs(3600);
    while sim.now < later {
        sim.step();
    }
    assert_eq!(sim.ends.each_ref().map(Connection::state), [State::FinWait2, State::CloseWait]);
    sim.write(1, 1000);
    sim.ends[1].close();
    sim.run(|sim| sim.ends[1].state() == State::Closed);
    sim.read_all(0);
    assert_eq!((sim.received, sim.ends[0].state()), ([1000, 1000], State::TimeWait));
}

#[test]
fn both_ends_may_close_or_open_at_once() {
    let mut sim = Sim::open(WINDOW);
    sim.ends.iter_mut().for_each(Connection::close);
    sim.run(|sim| sim.ends.iter().all(|end| end.state() == State::TimeWait));
    let mut sim = Sim::new(1, WINDOW, CALM);
    sim.ends[1] = Connection::connect(Ends { local: B, remote: A }, 77, 1280, WINDOW);
    sim.run(|sim| sim.ends.iter().all(Connection::may_send));
    sim.write(0, 1000);
    sim.run(|sim| sim.ends[1].readable());
    sim.read_all(1);
    assert_eq!(sim.received[1], 1000);
}

#[test]
fn only_an_exact_reset_ends_a_connection() {
    let mut sim = Sim::open(WINDOW);
    let (near, exact) = (sim.forge(0, RST | ACK, 7, b""), sim.forge(0, RST | ACK, 0, b""));
    sim.log.clear();
    sim.deliver(1, &near);
    sim.transmit();
    assert_eq!((sim.ends[1].state(), sim.log.len()), (State::Established, 1), "it is asked whether that was meant");
    let opening = sim.forge(0, SYN, 3, b"");
    sim.now += Duration::from_secs(1);
    sim.deliver(1, &opening);
    let far = sim.forge(0, RST | ACK, 1 << 30, b"");
    sim.deliver(1, &far);
    assert_eq!(sim.ends[1].state(), State::Established);
    sim.write(0, 10);
    sim.transmit();
    sim.run(|sim| sim.ends[1].readable());
    let exact_now = sim.forge(0, RST | ACK, 0, b"");
    sim.deliver(1, &exact);
    assert_eq!(sim.ends[1].state(), State::Established, "a reset of long ago");
    sim.deliver(1, &exact_now);
    assert_eq!(sim.ends[1].state(), State::Closed);
    sim.read_all(1);
    assert!(sim.ends[1].drained() && sim.received[1] == 10, "what had arrived is still there");
}

#[test]
fn what_is_acknowledged_out_of_order_is_not_sent_again() {
    let mut sim = Sim::open(1 << 20);
    sim.write(0, 60_000);
    let mut out = Batch::default();
    sim.ends[0].transmit(sim.now, &mut out, usize::MAX);
    let packets: Vec<Vec<u8>> = out.packets().map(<[u8]>::to_vec).collect();
    sim.log.clear();
    let kept = packets.iter().enumerate().filter(|(index, _)| *index != 3 && *index != 20);
    kept.for_each(|(_, packet)| sim.launch(0, packet.clone()));
    sim.log.clear();
    sim.run(|sim| sim.ends[0].sender.acknowledged() == 60_001);
    let again = sim.log.iter().filter(|(from, packet)| *from == 0 && packet.len() > HEADERS).count();
    assert_eq!(again, 2);
}

#[test]
fn segments_that_come_twice_are_named_and_make_the_sender_patient() {
    let mut sim = Sim::open(1 << 20);
    sim.write(0, 3000);
    sim.run(|sim| sim.ends[1].receiver.next() == 3001);
    let old = sim.log.iter().find(|(from, packet)| *from == 0 && packet.len() > HEADERS + 1000).cloned();
    sim.log.clear();
    sim.deliver(1, &old.expect("a data segment").1);
    sim.transmit();
    let answer = Segment::parse(&sim.log[0].1).expect("an answer").options.blocks;
    let base = (u32::MAX - 5_000).wrapping_add(1);
    assert_eq!(answer, [Some((base, base.wrapping_add(1220))), None, None, None]);
}

#[test]
fn packets_follow_a_path_that_takes_less() {
    let mut sim = Sim::open(1 << 20);
    sim.write(0, 50_000);
    sim.weather.loss = 1.0;
    sim.transmit();
    sim.weather.loss = 0.0;
    sim.ends[0].set_mtu(800);
    sim.log.clear();
    sim.run(|sim| sim.ends[1].receiver.next() == 50_001);
    assert!(sim.log.iter().all(|(_, packet)| packet.len() <= 800));
    sim.read_all(1);
    assert_eq!(sim.received[1], 50_000);
}

#[test]
fn a_peer_without_scaling_or_selective_acknowledgements_is_served() {
    let mut sim = Sim::new(5, 1 << 20, Weather { loss: 0.05, ..CALM });
    // Its opening, without options; the answer is as plain.
    let mut out = Batch::default();
    let fields = Fields { sequence: 1000, flags: SYN, window: 4000, ..Fields::default() };
    sim.ends[0].writer.write(&mut out, fields, &Options::default(), [&[]; 2]);
    let opening = only(&out);
    sim.deliver(1, &opening);
    let mut out = Batch::default();
    sim.ends[1].transmit(sim.now, &mut out, usize::MAX);
    let answer = Segment::parse(&only(&out)).expect("a segment").options;
    assert_eq!((answer.scale, answer.sack_permitted, answer.max_segment), (None, false, Some(1220)));
}

#[test]
fn a_peer_that_forgot_the_connection_is_found_out_by_asking() {
    let mut sim = Sim::open(WINDOW);
    let began = sim.now;
    while sim.now - began < Duration::from_secs(3600) {
        sim.step();
    }
    assert!(sim.ends.iter().all(Connection::may_send));
    sim.log.clear();
    sim.run(|sim| sim.log.iter().any(|(from, _)| *from == 0));
    let mut out = Batch::default();
    refuse(&sim.log.iter().find(|(from, _)| *from == 0).expect("a question").1, &mut out);
    sim.deliver(0, &only(&out));
    assert_eq!(sim.ends[0].state(), State::Closed);
}

#[test]
fn an_idle_connection_holds_no_memory_for_data() {
    let mut sim = Sim::open(1 << 20);
    for _ in 0..100 {
        sim.write(0, 100_000);
        sim.run(|sim| !sim.ends[0].sender.waits() || sim.ends[1].readable());
        sim.read_all(1);
    }
    while sim.ends[0].sender.waits() {
        sim.step();
        sim.read_all(1);
    }
    sim.ends.iter_mut().for_each(Connection::shrink);
    assert_eq!(sim.ends.each_ref().map(Connection::held), [0, 0]);
}
