//! Against boringtun, another implementation, both ways.

use boringtun::noise::{Tunn, TunnResult};
use x25519_dalek::{PublicKey, StaticSecret};

use super::*;

fn other() -> Tunn {
    Tunn::new(StaticSecret::from(RIGHT), PublicKey::from(public(LEFT)), None, None, 9, None)
}

fn network(result: TunnResult<'_>) -> Vec<u8> {
    let TunnResult::WriteToNetwork(message) = result else { panic!("nothing to send: {result:?}") };
    message.to_vec()
}

fn exchange(now: Instant, left: &mut Side, right: &mut Tunn) {
    let mut out = vec![0; 2048];
    for length in [40, 41, 60, 1_280] {
        let sealed = left.seal(now, &inner(length)).expect("there are keys");
        let opened = right.decapsulate(None, &sealed, &mut out);
        assert!(matches!(opened, TunnResult::WriteToTunnelV6(packet, _) if *packet == inner(length)));
        let back = network(right.encapsulate(&inner(length), &mut out));
        assert_eq!(left.open(now, &back), Opened::Packet(length));
    }
}

#[test]
fn we_begin() {
    let (now, mut out) = (Instant::now(), vec![0; 2048]);
    let (mut left, mut right) = (pair().0, other());
    let initiation = left.send(now);
    let response = network(right.decapsulate(None, &initiation, &mut out));
    let keepalive = left.reply(now, &response);
    assert!(matches!(right.decapsulate(None, &keepalive, &mut out), TunnResult::Done));
    let waited = left.next_waiting(now).expect("what waited");
    assert!(matches!(right.decapsulate(None, &waited, &mut out), TunnResult::WriteToTunnelV6(..)));
    exchange(now, &mut left, &mut right);
}

#[test]
fn it_begins() {
    let (now, mut out) = (Instant::now(), vec![0; 2048]);
    let (mut left, mut right) = (pair().0, other());
    let initiation = network(right.encapsulate(&inner(60), &mut out));
    let response = left.reply(now, &initiation);
    let keepalive = network(right.decapsulate(None, &response, &mut out));
    assert_eq!(left.open(now, &keepalive), Opened::Nothing);
    let waited = network(right.decapsulate(None, &[], &mut out));
    assert_eq!(left.open(now, &waited), Opened::Packet(60));
    exchange(now, &mut left, &mut right);
}

#[test]
fn keys_are_renewed_by_either() {
    let (now, mut out) = (Instant::now(), vec![0; 2048]);
    let (mut left, mut right) = (pair().0, other());
    for step in 0..6 {
        let now = now + seconds(step);
        if step % 2 == 0 {
            set_wall(2e9 + step as f64);
            let initiation = written(|out| left.0.begin(now, out)).expect("an initiation");
            let response = network(right.decapsulate(None, &initiation, &mut out));
            let keepalive = left.reply(now, &response);
            assert!(matches!(right.decapsulate(None, &keepalive, &mut out), TunnResult::Done));
        } else {
            let initiation = network(right.format_handshake_initiation(&mut out, true));
            let response = left.reply(now, &initiation);
            let keepalive = network(right.decapsulate(None, &response, &mut out));
            assert_eq!(left.open(now, &keepalive), Opened::Nothing);
        }
        exchange(now, &mut left, &mut right);
    }
}

#[test]
fn it_takes_our_cookies_and_we_take_its() {
    let (now, mut out) = (Instant::now(), vec![0; 2048]);
    let source = std::net::IpAddr::from([192, 0, 2, 1]);
    // Ours: the gate asks for one.
    let mut right = other();
    let (mut gate, mut answer) = (Gate::new(now, identity(LEFT)), [0; MAX_CONTROL]);
    let initiation = network(right.encapsulate(&inner(60), &mut out));
    while gate.admit(now, source, &initiation, &mut answer) == Admission::Admitted {}
    assert!(matches!(right.decapsulate(None, &answer[..COOKIE_REPLY], &mut out), TunnResult::Done));
    let proven = network(right.format_handshake_initiation(&mut out, true));
    assert_eq!(gate.admit(now, source, &proven, &mut answer), Admission::Admitted);
    // Its: it looks at ten handshakes, then asks.
    let (mut left, mut right) = (pair().0, other());
    let reply = (0..)
        .map(|_| {
            let initiation = written(|out| left.0.begin(now, out)).expect("an initiation");
            network(right.decapsulate(Some(source), &initiation, &mut out))
        })
        .find(|answer| kind(answer) == 3);
    assert_eq!(left.open(now, &reply.expect("a cookie")), Opened::Nothing);
    let proven = written(|out| left.0.begin(now, out)).expect("an initiation");
    assert_eq!(kind(&network(right.decapsulate(Some(source), &proven, &mut out))), 2);
}
