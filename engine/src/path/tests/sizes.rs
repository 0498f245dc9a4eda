//! What a path carries, and what becomes of it when that changes.

use super::*;
use crate::path::sizes::LADDER;
use crate::path::Refusal;

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
fn a_path_that_carries_more_is_used_to_the_full_between_our_own_nodes() {
    for (limit, stack, expected) in
        [(1_472, 8_920, 1_420), (9_000, 8_920, 8_920), (9_000, 1_400, 1_380), (9_000, 1_280, 1_280)]
    {
        let mut scene = Scene::new();
        scene.path.handle_stack_mtu(stack);
        scene.open = vec![endpoint("203.0.113.1:1")];
        scene.limit = limit;
        scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
        scene.run_sending(Duration::from_secs(2), milliseconds(100));
        assert_eq!(scene.path.inner_mtu(), expected, "limit {limit}, stack {stack}");
        scene.limit = 1_312;
        scene.run_sending(Duration::from_secs(5), milliseconds(20));
        assert_eq!(scene.path.inner_mtu(), 1_280);
        assert_eq!(scene.route().relay, None);
    }
    // Another implementation answers, but says nothing about sizes.
    let mut scene = Scene::new();
    scene.mirrors = false;
    scene.path.handle_stack_mtu(8_920);
    scene.open = vec![endpoint("203.0.113.1:1")];
    scene.path.handle_endpoints(scene.now, &[endpoint("203.0.113.1:1")]);
    scene.run_sending(Duration::from_secs(700), milliseconds(500));
    assert_eq!(scene.path.inner_mtu(), 1_280);
    assert!(scene.pings_to("203.0.113.1:1").iter().all(|length| *length <= FULL));
}

#[test]
fn a_path_that_begins_to_lose_large_packets_shrinks() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.limit = 1200;
    let mut shrunk_after = None;
    for step in 0..500_u32 {
        // Small packets go back and forth all the time: only large ones are lost.
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
