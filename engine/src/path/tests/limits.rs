//! What strangers and broken peers cannot make a path do.

use super::*;

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
