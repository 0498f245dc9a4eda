//! What people are told about a relayed path: what is known when they ask.

use super::*;
use crate::path::Refusal;

fn reason(scene: &Scene) -> String {
    scene.path.reason(scene.now)
}

fn know(scene: &mut Scene, endpoints: &[&str]) {
    let endpoints: Vec<_> = endpoints.iter().map(|text| endpoint(text)).collect();
    scene.path.handle_endpoints(scene.now, &endpoints);
    scene.drain();
}

fn settled(scene: &Scene) -> Vec<&str> {
    let told = scene.events.iter().filter_map(|event| match event {
        PathEvent::Settled { path: InUse::Relayed { region: 999 }, reason } => Some(reason.as_str()),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_search_in_vain_is_told_step_by_step() {
    let mut scene = Scene::new();
    assert_eq!(reason(&scene), "no endpoint of the peer is known yet");
    know(&mut scene, &["203.0.113.1:1", "192.168.0.7:1"]);
    assert_eq!(reason(&scene), "2 endpoints of the peer are known, and none was asked: nothing was sent to the peer");
    scene.send();
    assert_eq!(reason(&scene), "2 endpoints of the peer were asked, up to twice each, and none has answered yet");
    scene.run_sending(Duration::from_secs(20), milliseconds(500));
    let told = reason(&scene);
    assert!(
        told.starts_with("2 endpoints of the peer were asked, up to ") && told.ends_with("each, and none answered"),
        "{told}"
    );
    assert_eq!(settled(&scene).len(), 1, "once, when all are known to be silent");
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.path.history().next_back().unwrap().reason, settled(&scene)[0]);
    scene.run(Duration::from_secs(60));
    assert!(reason(&scene).ends_with("none answered; nothing is tried while nothing is sent"), "{}", reason(&scene));
    scene.run_sending(Duration::from_secs(20), milliseconds(500));
    assert_eq!(settled(&scene).len(), 1);
}

#[test]
fn hard_nats_are_named_on_the_side_where_they_are() {
    let told = |own: bool, peer: &[&str]| {
        let mut scene = Scene::new();
        scene.path.handle_own_nat(own);
        know(&mut scene, peer);
        scene.send();
        reason(&scene)
    };
    let (easy, hard) = (["203.0.113.1:1", "192.168.0.7:1"], ["203.0.113.1:1", "203.0.113.1:2", "192.168.0.7:1"]);
    assert!(told(false, &easy).ends_with("none has answered yet"));
    assert!(told(true, &easy).ends_with("; the NAT on this side gives every destination another port"));
    assert!(told(false, &hard).ends_with("; the peer's NAT seems to give every destination another port"));
    let both = "; the NAT on this side gives every destination another port, and the peer's seems to, too";
    assert!(told(true, &hard).ends_with(both), "{}", told(true, &hard));
    let private =
        ["192.168.0.7:1", "192.168.0.7:2", "100.64.0.1:1", "100.64.0.1:2", "[2001:db8::1]:1", "[2001:db8::1]:2"];
    assert!(!told(false, &private).contains("another port"), "those are no NAT's");
}

#[test]
fn sides_without_a_public_address_are_named() {
    let told = |own: &str, peer: &[&str]| {
        let mut scene = Scene::new();
        scene.path.handle_own_endpoints(scene.now, &[endpoint(own)]);
        know(&mut scene, peer);
        scene.send();
        reason(&scene)
    };
    let (private, public) = (["192.168.0.7:1", "100.64.3.2:1"], ["192.168.0.7:1", "203.0.113.1:1"]);
    let one = told("203.0.113.9:1", &private[..1]);
    let wanted = "the one endpoint of the peer was asked twice, and has not answered yet";
    assert_eq!(one, format!("{wanted}; the peer knows no public address of its own"));
    assert!(told("10.0.0.9:1", &private).ends_with("; neither side knows a public address of its own"));
    assert!(told("10.0.0.9:1", &public).ends_with("; this side knows no public address of its own"));
    assert!(told("203.0.113.9:1", &public).ends_with("none has answered yet"));
}

#[test]
fn families_that_do_not_meet_are_named() {
    let mut scene = Scene::new();
    know(&mut scene, &["[2001:db8::1]:1", "[2001:db8::2]:1"]);
    scene.send();
    assert_eq!(reason(&scene), "the peer has IPv6 addresses only, and this side IPv4 addresses only");
    know(&mut scene, &["[2001:db8::1]:1", "203.0.113.1:1"]);
    scene.send();
    assert!(!reason(&scene).contains("only"), "{}", reason(&scene));
}

#[test]
fn what_the_kernel_refuses_for_all_is_the_reason() {
    let mut scene = Scene::new();
    know(&mut scene, &["203.0.113.1:1", "203.0.113.2:1"]);
    scene.send();
    let refusal = Refusal::Error { code: libc::ENETUNREACH };
    scene.path.handle_refused(scene.now, endpoint("203.0.113.1:1"), refusal);
    assert!(reason(&scene).contains("none has answered yet"), "the other one may");
    scene.path.handle_refused(scene.now, endpoint("203.0.113.2:1"), refusal);
    let wanted = "this machine cannot send to any endpoint of the peer: Network is unreachable";
    assert!(reason(&scene).starts_with(wanted), "{}", reason(&scene));
}

#[test]
fn a_way_for_small_packets_only_is_named() {
    let mut scene = Scene::new();
    (scene.open, scene.limit) = (vec![endpoint("203.0.113.1:1")], 200);
    know(&mut scene, &["203.0.113.1:1"]);
    scene.run_sending(Duration::from_secs(2), milliseconds(100));
    let wanted = "203.0.113.1:1 answered small packets in 10.0 ms, but no large ones were seen to pass";
    assert_eq!(reason(&scene), wanted);
}

#[test]
fn a_lost_path_is_told_with_its_age_and_a_new_one_at_once() {
    let mut scene = Scene::direct("203.0.113.1:1");
    assert_eq!(reason(&scene), "203.0.113.1:1 answered in 10.0 ms");
    scene.open.clear();
    scene.run_sending(milliseconds(600), milliseconds(10));
    assert_eq!(reason(&scene), "203.0.113.1:1 does not answer");
    scene.run_sending(Duration::from_secs(30), milliseconds(100));
    let told = reason(&scene);
    assert!(told.starts_with("203.0.113.1:1 answered 30 s ago, and does not now"), "{told}");
    assert_eq!(settled(&scene).len(), 1);
    scene.open = vec![endpoint("203.0.113.1:1")];
    scene.run_sending(Duration::from_secs(2), milliseconds(100));
    assert_eq!(reason(&scene), "203.0.113.1:1 answered in 10.0 ms");
}

#[test]
fn a_path_that_nobody_used_is_not_said_to_be_silent() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.run(Duration::from_secs(120));
    assert_eq!(reason(&scene), "the direct path was not confirmed lately");
}

#[test]
fn whoever_forbids_direct_paths_is_named() {
    let mut scene = Scene::direct("203.0.113.1:1");
    scene.path.handle_block_direct(scene.now, true);
    assert_eq!(reason(&scene), "direct paths are blocked on this side");
    scene.path.handle_block_direct(scene.now, false);
    scene.disco(HOME, &Message::CallMeMaybe { endpoints: vec![] });
    assert_eq!(reason(&scene), "the peer told no endpoint: it forbids direct paths, or knows no address of its own");
}

#[test]
fn without_a_relay_that_is_part_of_the_reason() {
    let now = Instant::now();
    let path = PeerPath::new(OWN_KEY, 1);
    assert_eq!(path.reason(now), "no relay of the peer is known, and no endpoint of the peer is known yet");
}
