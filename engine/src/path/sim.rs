//! Two nodes on a simulated internet: NATs, loss, a relay, and a clock that the test moves.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{InUse, PathEvent, PeerPath, Route, Source};
use crate::wire::disco::Message;

const RELAY: Source = Source::Relay { region: 999 };
const RELAY_DELAY: Duration = Duration::from_millis(40);
const DIRECT_DELAY: Duration = Duration::from_millis(15);
/// A full data packet.
const DATA: usize = 1312;

/// What stands between a node and the internet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Nat {
    /// Nothing: whoever sends is heard.
    Open,
    /// One mapping for all destinations; lets in only whom the node has sent to.
    Easy,
    /// Another port for each destination; lets in only that destination.
    Hard,
    /// No UDP at all.
    Closed,
}

struct Node {
    path: PeerPath,
    nat: Nat,
    address: SocketAddr,
    /// Whom it sent to: the holes in its NAT.
    holes: BTreeSet<SocketAddr>,
    /// The ports that a hard NAT gave to destinations.
    mappings: HashMap<SocketAddr, SocketAddr>,
    changes: Vec<(Duration, InUse)>,
    received: u32,
    received_at: Option<Instant>,
    /// It does nothing, and what is sent to it is lost.
    asleep: bool,
    /// How far its clock is behind: that of a machine stands still while the machine sleeps.
    behind: Duration,
}

impl Node {
    /// Say how a packet to `to` looks from outside.
    fn source_for(&mut self, to: SocketAddr) -> SocketAddr {
        self.holes.insert(to);
        if self.nat != Nat::Hard {
            return self.address;
        }
        let next = self.mappings.len() as u16;
        let mapped = SocketAddr::new(self.address.ip(), 50_000 + next);
        *self.mappings.entry(to).or_insert(mapped)
    }

    fn lets_in(&self, from: SocketAddr, to: SocketAddr) -> bool {
        match self.nat {
            Nat::Open => to == self.address,
            Nat::Easy => to == self.address && self.holes.contains(&from),
            Nat::Hard => self.mappings.get(&from) == Some(&to),
            Nat::Closed => false,
        }
    }
}

enum Payload {
    Disco(Message),
    Data,
}

struct Packet {
    at: Instant,
    from: Source,
    /// Where it goes when it goes by UDP.
    to: Option<SocketAddr>,
    receiver: usize,
    payload: Payload,
    length: usize,
}

struct Internet {
    start: Instant,
    now: Instant,
    nodes: [Node; 2],
    flying: Vec<Packet>,
    cut: bool,
    /// The largest datagram that gets through.
    limit: usize,
    loss_percent: u64,
    random: u64,
}

impl Internet {
    fn new(nats: [Nat; 2], seed: u64) -> Self {
        let now = Instant::now() + Duration::from_secs(24 * 3600); // a clock that is behind has to begin somewhere
        let node = |index: usize| {
            let address: SocketAddr = format!("203.0.113.{}:{}", index + 1, 40_000 + index).parse().unwrap();
            let mut path = PeerPath::new([index as u8; 32], seed + index as u64);
            path.handle_home(now, Some(999));
            path.handle_own_endpoints(now, &[address]);
            Node {
                path,
                nat: nats[index],
                address,
                holes: BTreeSet::new(),
                mappings: HashMap::new(),
                changes: Vec::new(),
                received: 0,
                received_at: None,
                asleep: false,
                behind: Duration::ZERO,
            }
        };
        let nodes = [node(0), node(1)];
        let random = seed * 2 + 88_172_645_463_325_252;
        Self { start: now, now, nodes, flying: Vec::new(), cut: false, limit: usize::MAX, loss_percent: 0, random }
    }

    /// What time it is for a node.
    fn clock(&self, index: usize) -> Instant {
        self.now - self.nodes[index].behind
    }

    /// When a node wants to do something next, as others see it.
    fn due(&self, index: usize) -> Option<Instant> {
        let node = &self.nodes[index];
        node.path.poll_timeout().filter(|_| !node.asleep).map(|at| at + node.behind)
    }

    fn lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < self.loss_percent
    }

    /// Send data from one node the way its path says.
    fn send(&mut self, sender: usize) {
        let now = self.clock(sender);
        let Route { direct, relay } = self.nodes[sender].path.handle_send(now);
        let length = (self.nodes[sender].path.inner_mtu() + 32).min(DATA);
        let ways = [direct.map(Source::Udp), relay.map(|region| Source::Relay { region })];
        ways.into_iter().flatten().for_each(|to| self.fly(sender, to, Payload::Data, length));
        self.drain(sender);
    }

    fn drain(&mut self, sender: usize) {
        let now = self.clock(sender);
        while let Some(transmit) = self.nodes[sender].path.poll_transmit() {
            self.fly(sender, transmit.to, Payload::Disco(transmit.message), transmit.length);
        }
        while let Some(event) = self.nodes[sender].path.poll_event() {
            match event {
                PathEvent::Changed { path, .. } => {
                    let after = self.now - self.start;
                    self.nodes[sender].changes.push((after, path));
                }
                PathEvent::EndpointsWanted => {
                    let own = [self.nodes[sender].address];
                    self.nodes[sender].path.handle_own_endpoints(now, &own);
                }
                PathEvent::Pong { .. } | PathEvent::Settled { .. } => {}
            }
        }
    }

    fn fly(&mut self, sender: usize, to: Source, payload: Payload, length: usize) {
        let receiver = 1 - sender;
        match to {
            Source::Relay { .. } => {
                self.flying.push(Packet {
                    at: self.now + RELAY_DELAY,
                    from: RELAY,
                    to: None,
                    receiver,
                    payload,
                    length,
                });
            }
            Source::Udp(endpoint) => {
                let from = self.nodes[sender].source_for(endpoint);
                let closed = self.nodes[sender].nat == Nat::Closed;
                if closed || self.cut || length > self.limit || self.lost() {
                    return;
                }
                let at = self.now + DIRECT_DELAY;
                self.flying.push(Packet { at, from: Source::Udp(from), to: Some(endpoint), receiver, payload, length });
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let now = self.clock(packet.receiver);
        let node = &mut self.nodes[packet.receiver];
        if node.asleep {
            return;
        }
        if let (Source::Udp(from), Some(to)) = (packet.from, packet.to) {
            if !node.lets_in(from, to) {
                return;
            }
        }
        match packet.payload {
            Payload::Disco(message) => node.path.handle_disco(now, packet.from, &message, packet.length),
            Payload::Data => {
                node.received += 1;
                node.received_at = Some(self.now);
                node.path.handle_receive(now, packet.from);
            }
        }
        self.drain(packet.receiver);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.flying.iter().map(|packet| packet.at).min();
            let timers = [0, 1].into_iter().filter_map(|index| self.due(index)).min();
            let Some(next) = [packet, timers].into_iter().flatten().min().filter(|next| *next <= end) else { break };
            assert!(next >= self.now, "a deadline of the past means a busy loop");
            self.now = next;
            let (due, later) = std::mem::take(&mut self.flying).into_iter().partition(|packet| packet.at <= next);
            self.flying = later;
            Vec::into_iter(due).for_each(|packet| self.deliver(packet));
            for index in (0..2).filter(|index| !self.nodes[*index].asleep).collect::<Vec<_>>() {
                let now = self.clock(index);
                self.nodes[index].path.handle_timeout(now);
                self.drain(index);
            }
        }
        self.now = end;
    }

    /// Let both nodes talk to each other, ten packets a second each.
    fn talk(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.send(0);
            self.send(1);
            self.run(Duration::from_millis(100));
        }
    }

    /// Let one node send a stream, a packet each 5 ms, and the other acknowledge it.
    fn stream(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.send(0);
            self.run(Duration::from_millis(5));
            self.send(1);
        }
    }

    fn direct(&self) -> [bool; 2] {
        [0, 1].map(|index| matches!(self.nodes[index].path.in_use(self.clock(index)), InUse::Direct { .. }))
    }
}

#[test]
fn nodes_meet_wherever_their_nats_allow_it() {
    use Nat::{Closed, Easy, Hard, Open};
    let rows = [
        ([Open, Open], true),
        ([Easy, Easy], true),
        ([Open, Easy], true),
        ([Open, Hard], true),
        // The hard side's port is not the one that the easy side pings and lets in.
        ([Easy, Hard], false),
        ([Hard, Hard], false),
        ([Closed, Open], false),
    ];
    for (nats, expected) in rows {
        for nats in [nats, [nats[1], nats[0]]] {
            let mut internet = Internet::new(nats, 1);
            internet.talk(Duration::from_secs(2));
            assert_eq!(internet.direct(), [expected; 2], "{nats:?}");
            let received = internet.nodes.iter().map(|node| node.received).min();
            assert!(received >= Some(18), "{nats:?}: by relay from the first packet");
        }
    }
}

#[test]
fn one_side_that_talks_is_enough() {
    let mut internet = Internet::new([Nat::Easy, Nat::Easy], 2);
    // As the coordinator tells it.
    let published = [internet.nodes[1].address];
    internet.nodes[0].path.handle_endpoints(internet.now, &published);
    for _ in 0..20 {
        internet.send(0);
        internet.run(Duration::from_millis(100));
    }
    assert!(internet.direct()[0]);
}

#[test]
fn a_cut_costs_a_quarter_of_a_second_of_data_and_heals_within_one() {
    let mut internet = Internet::new([Nat::Easy, Nat::Easy], 3);
    internet.talk(Duration::from_secs(3));
    assert_eq!(internet.direct(), [true; 2]);
    internet.cut = true;
    let (cut_at, before) = (internet.now, internet.nodes[1].received);
    while internet.nodes[1].received == before {
        internet.send(0);
        internet.run(Duration::from_millis(10));
    }
    let gap = internet.nodes[1].received_at.unwrap() - cut_at;
    assert!(gap <= Duration::from_millis(250), "{gap:?}");
    internet.talk(Duration::from_secs(2));
    assert_eq!(internet.nodes[0].path.route(internet.now), Route { direct: None, relay: Some(999) });
    internet.cut = false;
    internet.talk(Duration::from_secs(1));
    assert_eq!(internet.direct(), [true; 2]);
}

#[test]
fn a_cut_is_noticed_and_healed_whatever_its_length() {
    for cut_for in [1, 5, 20, 55] {
        let mut internet = Internet::new([Nat::Easy, Nat::Easy], 3);
        internet.talk(Duration::from_secs(3));
        internet.cut = true;
        internet.talk(Duration::from_secs(cut_for));
        internet.cut = false;
        internet.talk(Duration::from_millis(1200));
        assert_eq!(internet.direct(), [true; 2], "cut for {cut_for} s");
    }
}

#[test]
fn a_short_cut_under_a_stream_flips_the_path_once_each_way() {
    // Shorter than it takes to give a path up: nobody knows that it was cut, only that it was silent.
    for cut_for in (250..1400).step_by(50) {
        let mut internet = Internet::new([Nat::Easy, Nat::Easy], 3);
        internet.stream(Duration::from_secs(3));
        internet.cut = true;
        internet.stream(Duration::from_millis(cut_for));
        internet.cut = false;
        let heard_from = internet.now - internet.start + DIRECT_DELAY * 2;
        internet.stream(Duration::from_secs(5));
        for node in &internet.nodes {
            let back: Vec<_> = node.changes.iter().filter(|(at, _)| *at > heard_from).collect();
            let straight = back.len() <= 1 && back.iter().all(|(_, path)| matches!(path, InUse::Direct { .. }));
            assert!(straight, "cut for {cut_for} ms: {back:?}");
        }
        assert_eq!(internet.direct(), [true; 2], "cut for {cut_for} ms");
    }
}

#[test]
fn an_echo_over_a_cut_path_is_back_in_a_third_of_a_second() {
    let mut internet = Internet::new([Nat::Easy, Nat::Easy], 3);
    internet.talk(Duration::from_secs(3));
    internet.cut = true;
    let (cut_at, mut sent, mut answered) = (internet.now, internet.nodes[1].received, internet.nodes[0].received);
    let before = answered;
    // One side sends again and again as TCP repeats; the other only answers what arrives.
    while answered == before {
        internet.send(0);
        internet.run(Duration::from_millis(20));
        if internet.nodes[1].received > sent {
            sent = internet.nodes[1].received;
            internet.send(1);
        }
        answered = internet.nodes[0].received;
    }
    let gap = internet.now - cut_at;
    assert!(gap <= Duration::from_millis(350), "{gap:?}");
}

#[test]
fn a_link_that_comes_and_goes_costs_little_data_and_few_changes() {
    let mut internet = Internet::new([Nat::Easy, Nat::Easy], 5);
    internet.talk(Duration::from_secs(3));
    let (before, changes) = (internet.nodes[1].received, internet.nodes[0].changes.len());
    for turn in 0..12 {
        internet.cut = turn % 2 == 0;
        internet.talk(Duration::from_secs(5));
    }
    let received = internet.nodes[1].received - before;
    assert!(received >= 600 - 6 * 4, "{received} of 600 packets, or copies of them");
    let changes = internet.nodes[0].changes.len() - changes;
    assert!(changes <= 12, "{changes}");
}

#[test]
fn a_node_that_slept_is_reached_at_once_and_direct_in_a_second() {
    for (slept, clock_stood) in [(8, false), (600, false), (600, true), (9 * 3600, true)] {
        let mut internet = Internet::new([Nat::Easy, Nat::Easy], 9);
        internet.talk(Duration::from_secs(3));
        assert_eq!(internet.direct(), [true; 2]);
        // The other side has something to say all the time; the NATs forget.
        internet.nodes[0].asleep = true;
        for _ in 0..slept {
            internet.send(1);
            internet.run(Duration::from_secs(1));
        }
        internet.nodes.iter_mut().for_each(|node| node.holes.clear());
        let sleeper = &mut internet.nodes[0];
        sleeper.asleep = false;
        if clock_stood {
            sleeper.behind = Duration::from_secs(slept);
        }
        let (now, before) = (internet.clock(0), internet.nodes[0].received);
        internet.nodes[0].path.handle_timeout(now);
        internet.nodes[0].path.handle_rebind(now, "this machine slept");
        internet.drain(0);
        internet.send(1);
        internet.run(RELAY_DELAY);
        assert_eq!(internet.nodes[0].received, before + 1, "slept {slept} s: by relay");
        internet.talk(Duration::from_secs(1));
        assert_eq!(internet.direct(), [true; 2], "slept {slept} s, clock stood: {clock_stood}");
    }
}

#[test]
fn a_vpn_with_a_low_mtu_is_used_directly_by_both() {
    for limit in [1252, 1232, 1172, 600] {
        let mut internet = Internet::new([Nat::Easy, Nat::Easy], 6);
        internet.limit = limit;
        internet.talk(Duration::from_secs(3));
        assert_eq!(internet.direct(), [true; 2], "limit {limit}");
        let before = internet.nodes[1].received;
        internet.talk(Duration::from_secs(10));
        assert_eq!(internet.nodes[1].received - before, 100, "limit {limit}: everything arrives, and once");
    }
}

#[test]
fn a_path_that_gets_narrower_under_way_stays_in_use() {
    let mut internet = Internet::new([Nat::Easy, Nat::Easy], 7);
    internet.talk(Duration::from_secs(3));
    internet.limit = 1172;
    internet.talk(Duration::from_secs(4));
    assert_eq!(internet.direct(), [true; 2]);
    assert_eq!(internet.nodes[0].path.inner_mtu(), 1140);
    internet.limit = usize::MAX;
    internet.talk(Duration::from_secs(30));
    assert_eq!(internet.nodes[0].path.inner_mtu(), 1280, "what was lost by chance is soon found again");
}

#[test]
fn loss_does_not_make_the_path_flap() {
    for seed in 0..20 {
        let mut internet = Internet::new([Nat::Easy, Nat::Easy], seed);
        internet.loss_percent = 10;
        internet.talk(Duration::from_secs(60));
        assert_eq!(internet.direct(), [true; 2], "seed {seed}");
        let changes = &internet.nodes[0].changes;
        assert!(changes.len() <= 4, "seed {seed}: {changes:?}");
    }
}

#[test]
fn nothing_flies_over_udp_when_one_side_is_blocked() {
    let mut internet = Internet::new([Nat::Open, Nat::Open], 4);
    internet.nodes[1].path.handle_block_direct(internet.now, true);
    internet.talk(Duration::from_secs(5));
    assert_eq!(internet.direct(), [false; 2]);
    assert!(internet.nodes[1].holes.is_empty());
}

#[test]
fn no_order_of_inputs_upsets_a_path() {
    for seed in 1..300_u64 {
        let mut internet = Internet::new([Nat::Open, Nat::Easy], seed);
        internet.loss_percent = 30;
        let mut state = seed;
        let mut blocked = false;
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = (state >> 60) as usize % 2;
            let (now, address) = (internet.now, internet.nodes[1 - index].address);
            let path = &mut internet.nodes[index].path;
            match (state >> 33) % 12 {
                0 => path.handle_rebind(now, "the network changed"),
                1 => path.handle_endpoints(now, &[address]),
                2 => path.handle_endpoints(now, &[]),
                3 if index == 0 => {
                    blocked = !blocked;
                    path.handle_block_direct(now, blocked);
                }
                4 => path.handle_home(now, None),
                5 => path.handle_home(now, Some(999)),
                6 => path.handle_ping_request(now, state),
                7 => internet.cut = !internet.cut,
                8 => internet.run(Duration::from_millis((state >> 40) % 8000)),
                9 => path.handle_own_endpoints(now, &[]),
                _ => internet.send(index),
            }
            internet.drain(index);
            if blocked {
                assert_eq!(internet.nodes[0].path.route(internet.now).direct, None, "seed {seed}");
            }
            internet.run(Duration::from_millis(1));
        }
        assert!(internet.flying.len() < 1000);
    }
}
