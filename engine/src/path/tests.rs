//! Scenarios as transcripts: what comes in at which second, what must go out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::compare::{better, Measured};
use super::sizes::{FULL, LADDER, SMALL};
use super::{CandidateState, InUse, PathEvent, PeerPath, Refusal, Route, Source, Transmit};
use crate::wire::disco::{Message, TxId};

const HOME: Source = Source::Relay { region: 999 };
const OWN_KEY: [u8; 32] = [7; 32];

fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A path with a clock. It answers pings at endpoints that are `open`, after `delay`.
struct Scene {
    path: PeerPath,
    start: Instant,
    now: Instant,
    open: Vec<SocketAddr>,
    /// The largest packet that gets through.
    limit: usize,
    delay: Duration,
    answers: Vec<(Instant, TxId)>,
    sent: Vec<Transmit>,
    events: Vec<PathEvent>,
    wakeups: u32,
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let mut path = PeerPath::new(OWN_KEY, 42);
        path.handle_home(now, Some(999));
        path.handle_own_endpoints(now, &[endpoint("192.0.2.9:4000")]);
        let mut scene = Self {
            path,
            start: now,
            now,
            open: Vec::new(),
            limit: usize::MAX,
            delay: milliseconds(10),
            answers: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            wakeups: 0,
        };
        scene.drain();
        scene.events.clear();
        scene
    }

    /// A scene in which the direct path to `at` was just proven.
    fn direct(at: &str) -> Self {
        let mut scene = Self::new();
        scene.open = vec![endpoint(at)];
        scene.path.handle_endpoints(scene.now, &[endpoint(at)]);
        scene.send();
        scene.run(milliseconds(20));
        assert_eq!(scene.route(), Route { direct: Some(endpoint(at)), relay: None });
        scene.sent.clear();
        scene.events.clear();
        scene
    }

    fn send(&mut self) {
        self.path.handle_send(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.path.poll_transmit() {
            if let (Source::Udp(to), Message::Ping { txid, .. }) = (transmit.to, &transmit.message) {
                if self.open.contains(&to) && transmit.length <= self.limit {
                    self.answers.push((self.now + self.delay, *txid));
                }
            }
            self.sent.push(transmit);
        }
        while let Some(event) = self.path.poll_event() {
            self.events.push(event);
        }
    }

    /// Let time pass: answers arrive and timers fire when they are due.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let next = [answer, self.path.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(next >= self.now, "a deadline of the past means a busy loop");
            self.now = next;
            self.wakeups += 1;
            assert!(self.wakeups < 100_000, "busy loop");
            self.deliver();
            self.path.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) = self.answers.iter().partition(|(at, _)| *at <= self.now);
        self.answers = later;
        for (_, txid) in due {
            let pong = Message::Pong { txid, observed: endpoint("192.0.2.9:4000") };
            // A pong proves the endpoint that was pinged, whatever its source.
            self.path.handle_disco(self.now, Source::Udp(endpoint("203.0.113.250:1")), &pong, SMALL);
        }
    }

    fn run_sending(&mut self, time: Duration, interval: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.send();
            self.run(interval);
        }
    }

    fn disco(&mut self, from: Source, message: &Message) {
        self.path.handle_disco(self.now, from, message, FULL);
        self.drain();
    }

    fn route(&self) -> Route {
        self.path.route(self.now)
    }

    /// The lengths of the pings sent to an endpoint.
    fn pings_to(&self, to: &str) -> Vec<usize> {
        let to = Source::Udp(endpoint(to));
        let pings = self.sent.iter().filter(|sent| sent.to == to && matches!(sent.message, Message::Ping { .. }));
        pings.map(|ping| ping.length).collect()
    }

    fn candidates(&self) -> Vec<super::CandidateStats> {
        self.path.candidates(self.now)
    }

    fn calls(&self) -> Vec<&Vec<SocketAddr>> {
        let calls = self.sent.iter().filter_map(|sent| match &sent.message {
            Message::CallMeMaybe { endpoints } => Some((sent.to, endpoints)),
            _ => None,
        });
        calls.inspect(|(to, _)| assert_eq!(*to, HOME)).map(|(_, endpoints)| endpoints).collect()
    }

    fn changes(&self) -> Vec<InUse> {
        let changed = self.events.iter().filter_map(|event| match event {
            PathEvent::Changed { path, reason } => Some((*path, reason)),
            _ => None,
        });
        changed.inspect(|(_, reason)| assert!(!reason.is_empty())).map(|(path, _)| path).collect()
    }
}

#[test]
fn compares_as_upstream_does() {
    let rows = [
        ("203.0.113.1:1", 100, "203.0.113.2:1", 101, false),
        ("203.0.113.1:1", 100, "203.0.113.2:1", 103, true),
        ("10.0.0.2:1", 100, "203.0.113.2:1", 91, true),
        ("10.0.0.2:1", 100, "203.0.113.2:1", 30, false),
        ("[2001:db8::1]:1", 100, "203.0.113.2:1", 91, true),
        ("192.168.0.1:1", 100, "[2001:db8::1]:1", 101, true),
        ("203.0.113.1:1", 0, "203.0.113.2:1", 0, false),
        ("203.0.113.1:1", 1, "203.0.113.1:1", 100, false),
        ("127.0.0.1:1", 100, "10.0.0.1:1", 90, true),
        ("[::1]:1", 100, "127.0.0.1:1", 100, true),
        ("[fd00::1]:1", 100, "10.0.0.1:1", 100, true),
    ];
    for (a, a_ms, b, b_ms, expected) in rows {
        let a = Measured { endpoint: endpoint(a), latency: milliseconds(a_ms) };
        let b = Measured { endpoint: endpoint(b), latency: milliseconds(b_ms) };
        assert_eq!(better(a, b), expected, "{a:?} against {b:?}");
        assert!(!(better(a, b) && better(b, a)), "both are better: {a:?} {b:?}");
    }
}

#[test]
fn goes_by_relay_from_the_first_packet() {
    let mut scene = Scene::new();
    assert_eq!(scene.route(), Route { direct: None, relay: Some(999) });
    scene.send();
    assert_eq!(scene.route(), Route { direct: None, relay: Some(999) });
    assert_eq!(scene.calls(), [&vec![endpoint("192.0.2.9:4000")]]);
}

#[test]
fn says_why_it_is_relayed() {
    let now = Instant::now();
    let reason = |prepare: fn(&mut PeerPath, Instant)| {
        let mut path = PeerPath::new(OWN_KEY, 1);
        prepare(&mut path, now);
        path.handle_home(now, Some(999));
        match path.poll_event() {
            Some(PathEvent::Changed { path: InUse::Relayed { region: 999 }, reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(|_, _| {}), "no endpoint of the peer is known yet");
    let publish = |path: &mut PeerPath, now| path.handle_endpoints(now, &[endpoint("192.0.2.1:1")]);
    assert_eq!(reason(publish), "no endpoint of the peer has answered yet");
    assert_eq!(reason(|path, now| path.handle_block_direct(now, true)), "direct paths are blocked");
}

#[test]
fn learns_the_region_where_the_peer_is_heard() {
    let now = Instant::now();
    let mut path = PeerPath::new(OWN_KEY, 1);
    assert_eq!(path.route(now), Route::default());
    path.handle_receive(now, Source::Relay { region: 3 });
    assert_eq!(path.route(now).relay, Some(3));
    path.handle_home(now, Some(5));
    assert_eq!(path.route(now).relay, Some(5));
}

#[test]
fn goes_direct_when_a_ping_is_answered() {
    let mut scene = Scene::new();
    scene.open = vec![endpoint("203.0.113.1:41641")];
    scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:41641"), endpoint("203.0.113.7:1")]);
    scene.send();
    assert_eq!(scene.pings_to("203.0.113.1:41641"), [FULL, SMALL]);
    scene.run(milliseconds(9));
    assert_eq!(scene.route().direct, None);
    scene.run(milliseconds(2));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:41641")), relay: None });
    let direct = InUse::Direct { endpoint: endpoint("203.0.113.1:41641"), latency: milliseconds(10) };
    assert_eq!(scene.changes(), [direct]);
    let states: Vec<_> = scene.candidates().iter().map(|candidate| candidate.state).collect();
    assert_eq!(states, [CandidateState::Answered, CandidateState::Sent]);
}

#[test]
fn prefers_the_better_of_two_answers() {
    let mut scene = Scene::new();
    scene.open = vec![endpoint("203.0.113.1:1"), endpoint("10.0.0.5:1")];
    let both = scene.open.clone();
    scene.path.handle_endpoints(scene.now, &both);
    scene.send();
    scene.run(milliseconds(20));
    assert_eq!(scene.route().direct, Some(endpoint("10.0.0.5:1")));
}

#[test]
fn keeps_a_used_path_warm_and_lets_an_idle_one_go() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.run(Duration::from_secs(44));
    assert!(scene.route().relay.is_none());
    let while_active = scene.pings_to("203.0.113.1:1").len();
    assert!((14..=20).contains(&while_active), "{while_active} pings in 44 s");
    scene.run(Duration::from_secs(20));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: Some(999) });
    assert_eq!(scene.changes(), [InUse::Relayed { region: 999 }]);
    let sent = scene.sent.len();
    scene.run(Duration::from_secs(300));
    assert_eq!(scene.sent.len(), sent, "an idle path sends nothing");
    assert_eq!(scene.path.poll_timeout(), None);
}

#[test]
fn doubts_a_silent_path_soon_and_gives_it_up_in_two_seconds() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.open.clear();
    let direct = Route { direct: Some(endpoint("203.0.113.1:1")), relay: None };
    let both = Route { relay: Some(999), ..direct };
    assert_eq!(scene.path.handle_send(scene.now), direct);
    scene.run_sending(milliseconds(160), milliseconds(10));
    assert_eq!(scene.route(), direct);
    assert_eq!(scene.path.handle_send(scene.now), both, "the first packets go both ways before people are told");
    scene.run_sending(milliseconds(200), milliseconds(10));
    assert_eq!(scene.route(), both);
    scene.sent.clear();
    scene.run_sending(milliseconds(1300), milliseconds(10));
    assert_eq!(scene.route(), Route { direct: None, relay: Some(999) });
    assert!(scene.pings_to("203.0.113.1:1").len() >= 2, "it is asked and probed again");
    assert_eq!(scene.calls().len(), 1, "the peer is asked to ping us");
    assert_eq!(scene.changes(), [InUse::Relayed { region: 999 }]);
    scene.open = vec![endpoint("203.0.113.1:1")];
    scene.run_sending(milliseconds(700), milliseconds(100));
    assert_eq!(scene.route().direct, Some(endpoint("203.0.113.1:1")), "back at once");
}

#[test]
fn one_answer_ends_the_doubt() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.open.clear();
    scene.run_sending(milliseconds(600), milliseconds(10));
    assert!(scene.route().relay.is_some());
    scene.open = vec![endpoint("203.0.113.1:1")];
    scene.run(milliseconds(120));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
    assert_eq!(scene.changes().len(), 2);
}

#[test]
fn a_one_way_flow_over_a_live_path_stays_direct() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.run_sending(Duration::from_secs(30), milliseconds(10));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
    assert_eq!(scene.changes(), []);
    assert!(scene.pings_to("203.0.113.1:1").len() < 170, "not a ping for each packet");
}

#[test]
fn answers_pings_and_tries_their_source_at_once() {
    let mut scene = Scene::new();
    let from = Source::Udp(endpoint("198.51.100.4:777"));
    let ping = Message::Ping { txid: [1; 12], node_key: None };
    scene.disco(from, &ping);
    let pong = Message::Pong { txid: [1; 12], observed: endpoint("198.51.100.4:777") };
    assert_eq!(scene.sent[0], Transmit { to: from, message: pong, length: FULL });
    assert_eq!(scene.pings_to("198.51.100.4:777"), [SMALL]);
    scene.disco(from, &ping);
    assert_eq!(scene.sent.len(), 2, "the same ping again is not answered");
    assert_eq!(scene.candidates()[0].source, "ping");
}

#[test]
fn answers_a_ping_by_relay_with_the_pseudo_address() {
    let mut scene = Scene::new();
    scene.disco(HOME, &Message::Ping { txid: [1; 12], node_key: None });
    let pong = Message::Pong { txid: [1; 12], observed: endpoint("127.3.3.40:999") };
    assert_eq!(scene.sent, [Transmit { to: HOME, message: pong, length: FULL }]);
    assert!(scene.candidates().is_empty());
}

#[test]
fn follows_a_call_me_maybe_but_only_by_relay() {
    let mut scene = Scene::new();
    let call = Message::CallMeMaybe {
        endpoints: vec![endpoint("203.0.113.9:5"), endpoint("[fe80::1]:5"), endpoint("[fd7a:115c:a1e0::1]:5")],
    };
    scene.disco(Source::Udp(endpoint("203.0.113.9:5")), &call);
    assert_eq!(scene.sent, []);
    scene.disco(HOME, &call);
    assert_eq!(scene.pings_to("203.0.113.9:5"), [FULL, SMALL]);
    assert_eq!(scene.sent.len(), 2, "neither unusable endpoints nor a call in return");
    scene.disco(HOME, &call);
    assert_eq!(scene.pings_to("203.0.113.9:5").len(), 4, "a call makes every endpoint due");
    scene.disco(HOME, &Message::CallMeMaybe { endpoints: vec![] });
    assert!(scene.candidates().is_empty());
}

#[test]
fn blocked_nodes_stay_on_the_relay() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.path.handle_block_direct(scene.now, true);
    scene.drain();
    assert_eq!(scene.route(), Route { direct: None, relay: Some(999) });
    assert_eq!(scene.calls(), [&vec![]]);
    scene.sent.clear();
    scene.disco(Source::Udp(endpoint("203.0.113.1:1")), &Message::Ping { txid: [1; 12], node_key: None });
    scene.disco(HOME, &Message::CallMeMaybe { endpoints: vec![endpoint("203.0.113.1:1")] });
    scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
    scene.run_sending(Duration::from_secs(20), milliseconds(500));
    assert_eq!(scene.sent, []);
    scene.disco(HOME, &Message::Ping { txid: [2; 12], node_key: None });
    assert_eq!(scene.sent.len(), 1, "pings by relay are answered");
}

#[test]
fn ignores_pongs_it_did_not_ask_for() {
    let mut scene = Scene::new();
    scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
    let pong = Message::Pong { txid: [9; 12], observed: endpoint("192.0.2.9:4000") };
    scene.disco(Source::Udp(endpoint("203.0.113.1:1")), &pong);
    assert_eq!(scene.route().direct, None);
}

#[test]
fn a_pong_proves_nothing_twice() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.run(Duration::from_secs(3));
    let Some(Transmit { message: Message::Ping { txid, .. }, .. }) = scene.sent.last() else { panic!("no heartbeat") };
    let pong = Message::Pong { txid: *txid, observed: endpoint("192.0.2.9:4000") };
    scene.run(milliseconds(20));
    scene.open.clear();
    for _ in 0..100 {
        // Somebody who saw the answer sends it again and again.
        scene.disco(Source::Udp(endpoint("203.0.113.1:1")), &pong);
        scene.run_sending(milliseconds(10), milliseconds(10));
    }
    assert_eq!(scene.route().relay, Some(999));
}

#[test]
fn a_ping_request_is_answered_once() {
    let mut scene = Scene::new();
    scene.open = vec![endpoint("203.0.113.1:1"), endpoint("203.0.113.2:1")];
    let both = scene.open.clone();
    scene.path.handle_endpoints(scene.now, &both);
    scene.path.handle_ping_request(scene.now, 17);
    scene.drain();
    assert_eq!(scene.sent.iter().filter(|sent| sent.to == HOME).count(), 2, "a ping and a call");
    scene.run(Duration::from_secs(1));
    let pongs: Vec<_> = scene.events.iter().filter(|event| matches!(event, PathEvent::Pong { .. })).collect();
    assert_eq!(pongs.len(), 1);
    assert!(matches!(pongs[0], PathEvent::Pong { token: 17, via: Source::Udp(_), .. }));
}

#[test]
fn asks_for_endpoints_that_were_measured_long_ago() {
    let mut scene = Scene::new();
    scene.run(Duration::from_secs(28));
    scene.send();
    assert!(scene.events.contains(&PathEvent::EndpointsWanted));
    assert_eq!(scene.calls().len(), 1);
    scene.path.handle_own_endpoints(scene.now, &[endpoint("192.0.2.9:5000")]);
    scene.drain();
    assert_eq!(scene.calls().last(), Some(&&vec![endpoint("192.0.2.9:5000")]), "news is told at once");
}

#[test]
fn a_withdrawn_endpoint_is_left_when_it_stops_answering() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.path.handle_endpoints(scene.now, &[]);
    assert_eq!(scene.route().direct, Some(endpoint("203.0.113.1:1")));
    scene.open.clear();
    scene.run_sending(Duration::from_secs(3), milliseconds(50));
    assert_eq!(scene.route(), Route { direct: None, relay: Some(999) });
}

#[test]
fn a_rebind_makes_the_path_prove_itself() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.run(milliseconds(100));
    scene.path.handle_rebind(scene.now);
    assert_eq!(scene.route().relay, Some(999));
    scene.drain();
    scene.run(milliseconds(20));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
}

#[test]
fn candidates_are_bounded() {
    let mut scene = Scene::new();
    for port in 1..=500 {
        let from = SocketAddr::from(([203, 0, 113, 1], port));
        let mut txid = [0; 12];
        txid[..2].copy_from_slice(&port.to_be_bytes());
        scene.disco(Source::Udp(from), &Message::Ping { txid, node_key: None });
    }
    assert_eq!(scene.candidates().len(), 64);
    assert!(scene.now >= scene.start);
}

#[test]
fn a_pause_of_this_process_is_not_the_silence_of_a_peer() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.send();
    scene.run(milliseconds(101));
    // Nothing runs for three seconds; then what came meanwhile is read first, as the driver does.
    scene.now += Duration::from_secs(3);
    scene.deliver();
    scene.path.handle_timeout(scene.now);
    scene.drain();
    scene.run(milliseconds(1));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
    scene.run_sending(Duration::from_secs(1), milliseconds(100));
    assert_eq!(scene.changes(), []);
}

#[test]
fn a_peer_that_uses_the_relay_makes_us_ask_at_once_and_answer_both_ways() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.run(milliseconds(500));
    scene.sent.clear();
    scene.path.handle_receive(scene.now, HOME);
    scene.drain();
    assert_eq!(scene.pings_to("203.0.113.1:1"), [FULL]);
    let both = Route { direct: Some(endpoint("203.0.113.1:1")), relay: Some(999) };
    assert_eq!(scene.path.handle_send(scene.now), both);
    scene.run(milliseconds(20));
    assert_eq!(scene.route().relay, None, "it was a false alarm");
    scene.path.handle_receive(scene.now, HOME);
    scene.drain();
    assert_eq!(scene.pings_to("203.0.113.1:1").len(), 1, "one question a second is enough");
    assert_eq!(scene.changes(), []);
}

#[test]
fn a_low_mtu_is_found_out_at_once_and_used() {
    let mut scene = Scene::new();
    scene.open = vec![endpoint("203.0.113.1:1")];
    scene.limit = 1252;
    scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
    scene.send();
    assert_eq!(scene.path.inner_mtu(), 1280);
    scene.run(milliseconds(130));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
    assert_eq!(scene.path.inner_mtu(), 1220);
    assert!(scene.candidates()[0].reason.contains("1220 bytes"), "{}", scene.candidates()[0].reason);
    // It stays, and is asked with what it carries.
    scene.sent.clear();
    scene.run_sending(Duration::from_secs(30), milliseconds(500));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
    assert_eq!(scene.changes().len(), 1);
    assert!(scene.pings_to("203.0.113.1:1").iter().filter(|length| **length == 1252).count() >= 10);
    // The VPN ends: the path carries everything again, which the next look finds.
    scene.limit = usize::MAX;
    scene.run_sending(Duration::from_secs(600), Duration::from_secs(1));
    assert_eq!(scene.path.inner_mtu(), 1280);
    scene.sent.clear();
    scene.run_sending(Duration::from_secs(700), Duration::from_secs(1));
    assert!(scene.pings_to("203.0.113.1:1").iter().all(|length| *length == FULL), "nothing more to find out");
}

#[test]
fn every_size_down_to_the_lowest_is_found() {
    for limit in [FULL, 1300, 1272, 1260, 1232, 1200, 1172, 1100, 900, 600, 572] {
        let mut scene = Scene::new();
        scene.open = vec![endpoint("203.0.113.1:1")];
        scene.limit = limit;
        scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
        scene.send();
        scene.run(milliseconds(200));
        let rung = LADDER.into_iter().find(|rung| *rung <= limit).unwrap();
        assert_eq!(scene.path.inner_mtu(), rung - 32, "limit {limit}");
    }
    let mut scene = Scene::new();
    scene.open = vec![endpoint("203.0.113.1:1")];
    scene.limit = 300;
    scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
    scene.send();
    scene.run(milliseconds(200));
    assert_eq!(scene.route().direct, None, "a path that carries next to nothing is none");
    assert!(scene.candidates()[0].reason.contains("small packets"), "{}", scene.candidates()[0].reason);
}

#[test]
fn a_path_that_begins_to_lose_large_packets_shrinks() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.limit = 1200;
    let mut shrunk_after = None;
    for step in 0..500_u32 {
        // Small packets go to and fro all the time: only large ones are lost.
        scene.path.handle_receive(scene.now, Source::Udp(endpoint("203.0.113.1:1")));
        scene.run_sending(milliseconds(10), milliseconds(10));
        if scene.path.inner_mtu() < 1280 {
            shrunk_after.get_or_insert(milliseconds(10) * step);
        }
    }
    assert_eq!(scene.path.inner_mtu(), 1172 - 32);
    assert!(shrunk_after.is_some_and(|after| after < Duration::from_secs(3)), "{shrunk_after:?}");
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
    let reasons: Vec<_> = scene.path.history().map(|change| change.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("packets of 1280 bytes get lost")), "{reasons:?}");
}

#[test]
fn what_the_kernel_refuses_as_too_large_is_measured_at_once() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.limit = 1252;
    scene.send();
    let to = endpoint("203.0.113.1:1");
    assert!(scene.path.handle_refused(scene.now, to, Refusal::TooLarge { size: FULL }));
    scene.drain();
    scene.run(milliseconds(20));
    assert_eq!(scene.path.inner_mtu(), 1220);
    assert_eq!(scene.route(), Route { direct: Some(to), relay: None });
    assert!(!scene.path.handle_refused(scene.now, endpoint("203.0.113.9:9"), Refusal::TooLarge { size: FULL }));
}

#[test]
fn what_the_kernel_refuses_otherwise_is_said() {
    let mut scene = Scene::new();
    scene.path.handle_endpoints(scene.now, &[endpoint("[2001:db8::1]:1")]);
    scene.send();
    let refusal = Refusal::Error { code: libc::ENETUNREACH };
    scene.path.handle_refused(scene.now, endpoint("[2001:db8::1]:1"), refusal);
    let reason = &scene.candidates()[0].reason;
    assert!(reason.contains("Network is unreachable"), "{reason}");
}

#[test]
fn a_path_that_fails_again_and_again_has_to_wait() {
    let mut scene = Scene::direct("203.0.113.1:1");
    let mut takes = 0;
    for _ in 0..12 {
        scene.open.clear();
        scene.run_sending(Duration::from_millis(2500), milliseconds(10));
        scene.open = vec![endpoint("203.0.113.1:1")];
        scene.events.clear();
        scene.run_sending(Duration::from_millis(2500), milliseconds(10));
        takes += scene.changes().iter().filter(|path| matches!(path, InUse::Direct { .. })).count();
    }
    assert!((4..=9).contains(&takes), "{takes}");
    assert!(scene.path.history().count() <= 20);
    scene.run_sending(Duration::from_secs(31), milliseconds(100));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None }, "but not for ever");
}

#[test]
fn a_flood_of_pings_is_never_answered_with_more_than_came() {
    let mut scene = Scene::new();
    let (mut came, mut flood) = (0, 0_u32);
    for round in 0..50 {
        for port in 1..=500_u16 {
            flood += 1;
            let from = SocketAddr::from(([203, 0, 113, (round % 7) as u8 + 1], port));
            let mut txid = [0; 12];
            txid[..4].copy_from_slice(&flood.to_be_bytes());
            let ping = Message::Ping { txid, node_key: None };
            for _ in 0..2 {
                scene.path.handle_disco(scene.now, Source::Udp(from), &ping, SMALL);
                came += SMALL;
            }
        }
        scene.drain();
        scene.run(milliseconds(20));
    }
    let went: usize = scene.sent.iter().map(|sent| sent.length).sum();
    assert!(went * 10 < came, "{went} bytes for {came}");
    assert!(scene.candidates().len() <= 64);
}

#[test]
fn a_node_that_may_not_go_direct_tells_its_peer() {
    let mut blocked = Scene::new();
    blocked.path.handle_block_direct(blocked.now, true);
    blocked.sent.clear();
    blocked.send();
    blocked.run(Duration::from_secs(31));
    blocked.send();
    assert!(blocked.calls().iter().all(|endpoints| endpoints.is_empty()));
    assert!((1..=2).contains(&blocked.calls().len()), "{}", blocked.calls().len());
    let mut other = Scene::new();
    other.disco(HOME, &Message::CallMeMaybe { endpoints: vec![] });
    assert!(other.path.why_not_direct(other.now).contains("forbids direct paths"));
}
