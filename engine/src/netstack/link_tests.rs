//! A connection over a link with a rate, a queue, a delay and losses, in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const ENDS: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2)];
const BUFFER: usize = 32 << 20;

/// One direction of a path.
#[derive(Clone, Copy)]
struct Link {
    bytes_per_second: f64,
    delay: Duration,
    queue: Duration,
    loss: f64,
    /// This share of packets is held up, so that others overtake them.
    reordered: f64,
    /// Both machines are busy: a node that has done its work gets its next turn only after up to so long.
    nap: Duration,
}

/// What waits for a napping node beyond this is dropped, as a UDP socket does.
const SOCKET_BUFFER: usize = 8 << 20;

/// When a packet arrives, its number, at which side, and the packet.
type Arrival = (Instant, u64, usize, Vec<u8>);

struct Sim {
    now: Instant,
    link: Link,
    busy_until: [Instant; 2],
    awake_at: [Instant; 2],
    waiting: [Vec<Vec<u8>>; 2],
    stacks: [Netstack; 2],
    in_flight: BinaryHeap<Reverse<Arrival>>,
    count: u64,
    random: u64,
    lost: u64,
    /// When so many bytes have arrived, note the time.
    mark: Option<usize>,
    marked_at: Option<Instant>,
}

impl Sim {
    fn new(link: Link) -> Self {
        let now = Instant::now();
        let stack = || Netstack::new(now, Options { mtu: 1280, max_window: BUFFER, seed: 3 });
        Self {
            now,
            link,
            busy_until: [now; 2],
            awake_at: [now; 2],
            waiting: Default::default(),
            stacks: [stack(), stack()],
            in_flight: BinaryHeap::new(),
            count: 0,
            random: 42,
            lost: 0,
            mark: None,
            marked_at: None,
        }
    }

    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as f64 / (1_u64 << 31) as f64
    }

    /// Put packets on the link from stack `from`.
    fn transmit(&mut self, from: usize, out: &Batch) {
        for packet in out.packets() {
            let start = self.busy_until[from].max(self.now);
            let (lost, late) = (self.fraction() < self.link.loss, self.fraction() < self.link.reordered);
            if start - self.now > self.link.queue || lost {
                self.lost += 1;
                continue;
            }
            let done = start + Duration::from_secs_f64(packet.len() as f64 / self.link.bytes_per_second);
            self.busy_until[from] = done;
            self.count += 1;
            let held = if late { Duration::from_millis(1) } else { Duration::ZERO };
            self.in_flight.push(Reverse((done + self.link.delay + held, self.count, 1 - from, packet.to_vec())));
        }
    }

    fn emit(&mut self, side: usize, id: FlowId) {
        let mut out = Batch::default();
        while self.stacks[side].emit(self.now, id, &mut out, usize::MAX) {}
        self.transmit(side, &out);
    }

    /// Go to the next thing that happens: a packet that arrives, or a timer.
    fn step(&mut self) {
        let timers = (0..2).filter_map(|side| Some(self.stacks[side].poll_timeout()?.max(self.awake_at[side])));
        let naps = (0..2).filter(|side| !self.waiting[*side].is_empty()).map(|side| self.awake_at[side]);
        let arrival = self.in_flight.peek().map(|Reverse((at, ..))| *at);
        let next = timers.chain(naps).chain(arrival).min().expect("something is always going to happen");
        self.now = self.now.max(next);
        while self.in_flight.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, side, packet))) = self.in_flight.pop() else { break };
            if self.waiting[side].len() * packet.len() < SOCKET_BUFFER {
                self.waiting[side].push(packet);
            } else {
                self.lost += 1;
            }
        }
        for side in 0..2 {
            if self.awake_at[side] <= self.now {
                self.turn(side);
            }
        }
    }

    /// A node takes in what came and does what is due.
    fn turn(&mut self, side: usize) {
        let packets = std::mem::take(&mut self.waiting[side]);
        if !packets.is_empty() && !self.link.nap.is_zero() {
            self.awake_at[side] = self.now + self.link.nap.mul_f64(self.fraction());
        }
        let stack = &mut self.stacks[side];
        for packet in packets {
            let inner = packet::Inner::parse(&packet).expect("a packet of ours");
            let (ends, opens) = (inner.ends().expect("TCP"), inner.opens());
            let Some(id) = stack.find(&ends).or_else(|| opens.then(|| stack.accept(ends)).flatten()) else { continue };
            stack.enqueue(id, Span { start: 0, end: packet.len() });
            stack.ingest(self.now, id, &packet, usize::MAX);
        }
        while stack.next_due(self.now).is_some() {}
        for id in stack.flows.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            self.emit(side, id);
        }
    }

    /// Send `total` bytes one way; returns how long that took, and checks every byte.
    fn transfer(&mut self, total: usize) -> Duration {
        let port = self.stacks[0].free_port(ENDS[0], (ENDS[1], 22)).expect("a port");
        let sender = self.stacks[0].connect(Ends { local: (ENDS[0], port), remote: (ENDS[1], 22) }).expect("a flow");
        let (began, mut sent, mut received) = (self.now, 0, 0);
        self.emit(0, sender);
        while received < total {
            while sent < total {
                let filled = self.stacks[0].send(sender, usize::MAX, |room| {
                    let count = room.len().min(total - sent);
                    (0..count).for_each(|index| room[index] = ((sent + index) % 251) as u8);
                    (count, count)
                });
                match filled {
                    Some(count) if count > 0 => sent += count,
                    _ => break,
                }
            }
            self.emit(0, sender);
            self.step();
            let Some(receiver) = self.stacks[1].flows.iter().next().map(|(id, _)| id) else { continue };
            while let Some(count) = self.stacks[1].receive(receiver, |bytes| {
                let right = bytes.iter().enumerate().all(|(index, byte)| *byte == ((received + index) % 251) as u8);
                assert!(right, "wrong bytes after {received}");
                (bytes.len(), bytes.len())
            }) {
                received += count;
            }
            if self.mark.is_some_and(|mark| received >= mark) {
                (self.mark, self.marked_at) = (None, Some(self.now));
            }
            assert!(self.now - began < Duration::from_secs(300), "stuck after {received} of {total}");
        }
        self.now - began
    }
}

/// Transfer 20 MB and return how much of the link's rate was used.
fn used(link: Link) -> f64 {
    let mut sim = Sim::new(link);
    let total = 20_000_000;
    let took = sim.transfer(total);
    let share = total as f64 / took.as_secs_f64() / link.bytes_per_second;
    println!("{:.1} Mbit/s, {:.0} %, {} packets lost", share * link.bytes_per_second * 8e-6, share * 100.0, sim.lost);
    share
}

const FAST: Link = Link {
    bytes_per_second: 12.5e6,
    delay: Duration::from_millis(10),
    queue: Duration::from_millis(50),
    loss: 0.0,
    reordered: 0.0,
    nap: Duration::ZERO,
};

#[test]
fn a_clean_link_is_filled() {
    assert!(used(FAST) > 0.8);
}

#[test]
fn one_percent_of_loss_costs_little() {
    assert!(used(Link { loss: 0.01, ..FAST }) > 0.6);
}

#[test]
fn heavy_loss_still_moves() {
    assert!(used(Link { loss: 0.05, ..FAST }) > 0.1);
}

#[test]
fn reordering_is_not_taken_for_loss() {
    assert!(used(Link { reordered: 0.01, ..FAST }) > 0.6);
}

#[test]
fn a_short_queue_is_not_overrun() {
    assert!(used(Link { queue: Duration::from_millis(5), ..FAST }) > 0.5);
}

#[test]
fn a_long_link_is_filled() {
    assert!(used(Link { delay: Duration::from_millis(50), ..FAST }) > 0.5);
}

#[test]
fn a_slow_link_works() {
    let link = Link { bytes_per_second: 125e3, queue: Duration::from_millis(300), ..FAST };
    let mut sim = Sim::new(link);
    let took = sim.transfer(500_000);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn an_idle_connection_lives_for_ever_and_an_unanswered_one_does_not() {
    let mut sim = Sim::new(FAST);
    sim.transfer(10_000);
    let (day, began) = (Duration::from_secs(24 * 3600), sim.now);
    while sim.now - began < day {
        sim.step();
        assert!(sim.stacks.iter_mut().all(|stack| stack.given_up(sim.now).is_empty()));
    }
    assert!(sim.count < 2_000, "{} packets in a day of silence", sim.count);
    assert!((0..2).all(|side| sim.stacks[side].stage(0) == Stage::Open));
    sim.link.loss = 1.0;
    sim.stacks[0].send(0, BUFFER, |_| (100, ()));
    sim.emit(0, 0);
    let (began, lost) = (sim.now, sim.lost);
    while sim.stacks[0].given_up(sim.now).is_empty() {
        sim.step();
        assert!(sim.now - began < day);
    }
    assert!(sim.now - began >= tcp::GIVE_UP);
    assert!(sim.lost - lost < 2_000, "{} packets into the void", sim.lost - lost);
}

#[test]
fn a_connection_goes_on_soon_after_an_outage() {
    let mut sim = Sim::new(FAST);
    sim.transfer(10_000);
    sim.link.loss = 1.0;
    sim.stacks[0].send(0, BUFFER, |_| (100, ()));
    sim.emit(0, 0);
    let began = sim.now;
    while sim.now - began < Duration::from_secs(120) {
        sim.step();
    }
    sim.link.loss = 0.0;
    let back = sim.now;
    while sim.stacks[1].receive(0, |bytes| (bytes.len(), ())).is_none() {
        sim.step();
    }
    assert!(sim.now - back < Duration::from_secs(6), "{:?}", sim.now - back);
}

/// A whole night without network in mid-transfer, with more in flight than one timer repeats.
#[test]
fn a_transfer_goes_on_after_eight_hours_without_network() {
    let mut sim = Sim::new(FAST);
    sim.transfer(1_000_000);
    sim.stacks[0].send(0, BUFFER, |room| (room.len(), ()));
    sim.link.loss = 1.0;
    sim.emit(0, 0);
    let night = sim.now + Duration::from_secs(8 * 3600);
    while sim.now < night {
        sim.step();
        assert!(sim.stacks.iter_mut().all(|stack| stack.given_up(sim.now).is_empty()));
    }
    sim.link.loss = 0.0;
    sim.stacks[0].path_changed(ENDS[1]); // the first answer of the peer proves a path
    let (back, mut received) = (sim.now, 0);
    while received < 40_000 {
        sim.step();
        while let Some(count) = sim.stacks[1].receive(0, |bytes| (bytes.len(), bytes.len())) {
            received += count;
        }
        assert!(sim.now - back < Duration::from_secs(2), "{received} bytes");
    }
}

#[test]
fn a_transfer_goes_on_at_once_when_the_peer_is_heard_again() {
    let mut sim = Sim::new(FAST);
    sim.transfer(1_000_000);
    sim.stacks[0].way_restored(ENDS[1]); // nothing was tried in vain: nothing happens
    sim.stacks[0].send(0, BUFFER, |room| (room.len(), ()));
    sim.link.loss = 1.0;
    sim.emit(0, 0);
    let outage = sim.now + Duration::from_secs(20);
    while sim.now < outage {
        sim.step();
    }
    sim.link.loss = 0.0;
    sim.stacks[0].way_restored(ENDS[1]);
    let back = sim.now;
    while sim.stacks[1].receive(0, |bytes| (bytes.len(), ())).is_none() {
        sim.step();
        assert!(sim.now - back < Duration::from_millis(200));
    }
}

/// The best that a path of 5 Gbit/s and 20 ms allows, with what the four networks of the benchmark do to it.
const LAB: Link = Link {
    bytes_per_second: 625e6,
    delay: Duration::from_millis(10),
    queue: Duration::from_millis(20),
    loss: 0.0,
    reordered: 0.0,
    nap: Duration::ZERO,
};

/// Transfer what takes a while to begin with, then 100 MB; return the share of the rate that those used.
fn used_fast(link: Link) -> f64 {
    let mut sim = Sim::new(link);
    let (warm, total) = (60_000_000, 160_000_000);
    sim.mark = Some(warm);
    sim.transfer(total);
    let took = sim.now - sim.marked_at.expect("the mark was passed");
    let share = (total - warm) as f64 / took.as_secs_f64() / link.bytes_per_second;
    println!("{:.2} Gbit/s, {:.0} %, {} packets lost", share * link.bytes_per_second * 8e-9, share * 100.0, sim.lost);
    share
}

#[test]
fn a_fast_path_is_filled() {
    assert!(used_fast(LAB) > 0.6);
}

#[test]
fn a_fast_path_with_a_thousandth_lost_is_filled() {
    assert!(used_fast(Link { loss: 0.001, ..LAB }) > 0.6);
}

#[test]
fn a_fast_path_with_a_hundredth_lost_is_filled() {
    assert!(used_fast(Link { loss: 0.01, ..LAB }) > 0.5);
}

#[test]
fn a_fast_path_that_reorders_is_filled() {
    assert!(used_fast(Link { reordered: 0.01, ..LAB }) > 0.5);
}

#[test]
fn a_gigabit_across_the_world_is_filled() {
    let link = Link { bytes_per_second: 125e6, delay: Duration::from_millis(50), ..LAB };
    assert!(used_fast(link) > 0.6);
}

/// Threads that wait for their turn longer than the path takes look neither like loss nor like a slow path.
#[test]
fn busy_machines_do_not_strangle_a_connection() {
    for (delay, nap) in [(10_000, 30), (10_000, 60), (50, 5), (50, 30), (50_000, 60)] {
        let link = Link { delay: Duration::from_micros(delay), nap: Duration::from_millis(nap), ..LAB };
        let share = used_fast(Link { bytes_per_second: 125e6, queue: Duration::from_secs(1), ..link });
        println!("{delay} µs, naps up to {nap} ms: {:.0} %", share * 100.0);
        assert!(share > 0.3);
    }
}
