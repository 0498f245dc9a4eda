//! Scenarios as transcripts: what comes in at which second, what must go out.

mod limits;
mod reasons;
mod sizes;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::compare::{better, worth_a_switch, Measured};
use super::sizes::{FULL, SMALL};
use super::{CandidateState, InUse, PathEvent, PeerPath, Route, Source, Transmit};
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
    answers: Vec<(Instant, TxId, usize)>,
    /// Whether pongs are as long as their pings.
    mirrors: bool,
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
            mirrors: true,
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
                    self.answers.push((self.now + self.delay, *txid, transmit.length));
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
            let answer = self.answers.iter().map(|(at, ..)| *at).min();
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
        let (due, later): (Vec<_>, Vec<_>) = self.answers.iter().partition(|(at, ..)| *at <= self.now);
        self.answers = later;
        for (_, txid, length) in due {
            let pong = Message::Pong { txid, observed: endpoint("192.0.2.9:4000") };
            let length = if self.mirrors { length } else { 1310 };
            // A pong proves the endpoint that was pinged, whatever its source.
            self.path.handle_disco(self.now, Source::Udp(endpoint("203.0.113.250:1")), &pong, length);
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
fn a_path_that_works_is_not_left_for_jitter() {
    let rows = [
        ("203.0.113.1:1", 20, "203.0.113.2:1", 22, false),
        ("203.0.113.1:1", 20, "203.0.113.2:1", 24, true),
        ("203.0.113.1:1", 100, "203.0.113.2:1", 102, false),
        ("10.0.0.1:1", 1, "10.0.0.2:1", 2, false),
        ("10.0.0.1:1", 21, "203.0.113.2:1", 20, true),
        ("[2001:db8::1]:1", 20, "203.0.113.2:1", 20, true),
    ];
    for (a, a_ms, b, b_ms, expected) in rows {
        let a = Measured { endpoint: endpoint(a), latency: milliseconds(a_ms) };
        let b = Measured { endpoint: endpoint(b), latency: milliseconds(b_ms) };
        assert_eq!(worth_a_switch(a, b), expected, "{a:?} against {b:?}");
        assert!(!worth_a_switch(b, a), "both ways: {a:?} {b:?}");
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
    assert_eq!(reason(publish), "one endpoint of the peer is known, and was not asked: nothing was sent to the peer");
    assert_eq!(reason(|path, now| path.handle_block_direct(now, true)), "direct paths are blocked on this side");
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
    scene.path.handle_rebind(scene.now, "the network changed");
    assert_eq!(scene.route().relay, Some(999));
    scene.drain();
    scene.run(milliseconds(20));
    assert_eq!(scene.route(), Route { direct: Some(endpoint("203.0.113.1:1")), relay: None });
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

#[test]
fn a_node_that_may_not_go_direct_says_so_again_when_it_is_called() {
    let mut blocked = Scene::new();
    blocked.path.handle_block_direct(blocked.now, true);
    blocked.send();
    blocked.run(Duration::from_secs(2));
    blocked.sent.clear();
    let call = Message::CallMeMaybe { endpoints: vec![endpoint("203.0.113.1:1")] };
    blocked.disco(HOME, &call);
    blocked.disco(HOME, &call);
    assert_eq!(blocked.calls(), [&Vec::new()], "the first word of it was lost, and one a second is enough");
    blocked.run(Duration::from_secs(2));
    blocked.sent.clear();
    blocked.disco(HOME, &Message::CallMeMaybe { endpoints: vec![] });
    assert!(blocked.calls().is_empty(), "two that refuse do not go on about it");
}
