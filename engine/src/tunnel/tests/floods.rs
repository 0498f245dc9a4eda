//! Too many handshakes, and cookies.

use std::net::IpAddr;

use super::*;
use crate::tunnel::cookie::{self, mac_key, ALL_PROVEN_HANDSHAKES, ANONYMOUS_HANDSHAKES, PROVEN_HANDSHAKES};

const SOURCE: [u8; 4] = [192, 0, 2, 1];

fn admit(gate: &mut Gate, now: Instant, source: impl Into<IpAddr>, message: &[u8]) -> (Admission, Vec<u8>) {
    let mut out = [0; MAX_CONTROL];
    let admission = gate.admit(now, source.into(), message, &mut out);
    let length = if let Admission::Cookie(length) = admission { length } else { 0 };
    (admission, out[..length].to_vec())
}

/// A gate that was asked so often that it asks for cookies.
fn loaded(now: Instant, message: &[u8]) -> Gate {
    let mut gate = Gate::new(now, identity(RIGHT));
    for _ in 0..ANONYMOUS_HANDSHAKES {
        assert_eq!(admit(&mut gate, now, SOURCE, message).0, Admission::Admitted);
    }
    gate
}

#[test]
fn a_flood_of_handshakes_is_asked_for_cookies_and_garbage_is_refused() {
    let (now, (mut left, _)) = (Instant::now(), pair());
    let initiation = left.send(now);
    let mut gate = Gate::new(now, identity(RIGHT));
    let mut forged = initiation.clone();
    forged[120] ^= 1;
    assert_eq!(admit(&mut gate, now, SOURCE, &forged).0, Admission::Refused);
    assert_eq!(admit(&mut gate, now, SOURCE, &[1, 0, 0, 0]).0, Admission::Refused);
    let mut gate = loaded(now, &initiation);
    let (admission, reply) = admit(&mut gate, now, SOURCE, &initiation);
    assert_eq!(admission, Admission::Cookie(64));
    assert_eq!(left.open(now, &reply), Opened::Nothing, "the cookie is for the initiator");
}

#[test]
fn whoever_got_a_cookie_comes_in_from_its_address_for_two_minutes() {
    let (now, (mut left, _)) = (Instant::now(), pair());
    let initiation = left.send(now);
    let mut gate = loaded(now, &initiation);
    let (_, reply) = admit(&mut gate, now, SOURCE, &initiation);
    assert_eq!(left.open(now, &reply), Opened::Nothing);
    let proven = left.again(now).expect("it is begun anew at once, with the cookie");
    assert_ne!(proven, initiation);
    assert_eq!(admit(&mut gate, now, SOURCE, &proven).0, Admission::Admitted);
    assert_eq!(admit(&mut gate, now, [192, 0, 2, 2], &proven).0, Admission::Cookie(64), "from elsewhere");
    let later = now + seconds(119);
    let proven = written(|out| left.0.begin(later, out)).expect("an initiation");
    for _ in 0..ANONYMOUS_HANDSHAKES {
        admit(&mut gate, later, SOURCE, &initiation);
    }
    assert_eq!(admit(&mut gate, later, SOURCE, &proven).0, Admission::Admitted);
    let later = now + seconds(121);
    let old = written(|out| left.0.begin(later, out)).expect("an initiation");
    assert_eq!(old[INITIATION - 16..], [0; 16], "an old cookie is not used");
}

#[test]
fn addresses_with_cookies_are_counted_each_and_all() {
    let (now, mut message, key) = (Instant::now(), [1; INITIATION], mac_key(&public(RIGHT)));
    let mac = cookie::sign(&mut message, &key, None);
    let mut gate = loaded(now, &message);
    let mut enter = |source: IpAddr, now: Instant| {
        cookie::sign(&mut message, &key, None);
        let (admission, reply) = admit(&mut gate, now, source, &message);
        let asked = admission != Admission::Admitted;
        let cookie = asked.then(|| cookie::open(&public(RIGHT), &mac, &reply).expect("a cookie"));
        cookie::sign(&mut message, &key, cookie.as_ref());
        admit(&mut gate, now, source, &message).0 == Admission::Admitted
    };
    let six = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
    let entered = (0..2 * PROVEN_HANDSHAKES).filter(|host| enter(six(1, *host as u16), now)).count();
    assert_eq!(entered as u32, PROVEN_HANDSHAKES, "a network is one source");
    let entered = (2..2_000).filter(|network| enter(six(*network, 1), now)).count();
    assert_eq!(entered as u32, ALL_PROVEN_HANDSHAKES - PROVEN_HANDSHAKES);
    assert!(enter(six(1, 1), now + seconds(1)), "the next second");
}

#[test]
fn cookies_open_for_whom_they_are_and_once_only_for_that_message() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let initiation = left.send(now);
    let mut gate = loaded(now, &initiation);
    let (_, reply) = admit(&mut gate, now, SOURCE, &initiation);
    assert_eq!(right.open(now, &reply), Opened::Rejected);
    for bit in 0..8 * reply.len() {
        let mut forged = reply.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(left.open(now, &forged), Opened::Rejected, "bit {bit}");
    }
    written(|out| left.0.begin(now, out)).expect("another initiation");
    assert_eq!(left.open(now, &reply), Opened::Rejected, "it answers the one before");
}

#[test]
fn a_response_may_be_asked_for_a_cookie_too() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let initiation = left.send(now);
    let response = right.reply(now, &initiation);
    let mut gate = Gate::new(now, identity(LEFT));
    for _ in 0..ANONYMOUS_HANDSHAKES {
        admit(&mut gate, now, SOURCE, &response);
    }
    let (_, reply) = admit(&mut gate, now, SOURCE, &response);
    assert_eq!(right.open(now, &reply), Opened::Nothing);
    let initiation = written(|out| left.0.begin(now, out)).expect("an initiation");
    let response = right.reply(now + seconds(1), &initiation);
    assert_eq!(admit(&mut gate, now, SOURCE, &response).0, Admission::Admitted);
}

#[test]
fn forged_responses_cost_a_bounded_number_of_multiplications() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let initiation = left.send(now);
    let response = right.reply(now, &initiation);
    let mut forged = response.clone();
    forged[20] ^= 1;
    cookie::sign(&mut forged, &identity(LEFT).mac_key, None);
    for _ in 0..15 {
        assert_eq!(left.open(now, &forged), Opened::Rejected);
    }
    left.reply(now, &response);
    let (mut left, mut right) = pair();
    let initiation = left.send(now);
    let response = right.reply(now, &initiation);
    let mut forged = response.clone();
    forged[20] ^= 1;
    cookie::sign(&mut forged, &identity(LEFT).mac_key, None);
    for _ in 0..16 {
        assert_eq!(left.open(now, &forged), Opened::Rejected);
    }
    assert_eq!(left.open(now, &response), Opened::Rejected, "no more are looked at");
    assert!(initiates(&left.tick(now + seconds(6)).expect("a retry")), "and the next handshake is another chance");
}

#[test]
fn a_key_of_small_order_makes_no_session() {
    let now = Instant::now();
    let mut left = Side(Session::new(identity(LEFT), &[0; 32], 7));
    assert_eq!(left.seal(now, &inner(60)), None);
}
