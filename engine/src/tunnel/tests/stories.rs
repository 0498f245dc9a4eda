//! Handshakes: who has which keys, and what waits for them.

use super::*;

#[test]
fn a_packet_waits_for_the_handshake_and_then_arrives() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let initiation = left.send(now);
    assert_eq!(addressee(&initiation), Some(Addressee::Unknown));
    assert!(initiates(&initiation));
    assert_eq!(left.seal(now, &inner(61)), None, "the second waits too");
    let response = right.reply(now, &initiation);
    assert_eq!(addressee(&response), Some(Addressee::Session(7)));
    let keepalive = left.reply(now, &response);
    assert_eq!(addressee(&keepalive), Some(Addressee::Session(9)));
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
    assert!(left.0.waits(now));
    let (first, second) = (left.next_waiting(now).expect("a packet"), left.next_waiting(now).expect("a packet"));
    assert_eq!(right.open(now, &first), Opened::Packet(60));
    assert_eq!(right.open(now, &second), Opened::Packet(61));
    assert_eq!(left.next_waiting(now), None);
    assert_eq!(right.open(now, &first), Opened::Rejected, "a replay");
}

#[test]
fn a_responder_sends_nothing_before_its_keys_are_confirmed() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let initiation = left.send(now);
    let response = right.reply(now, &initiation);
    assert!(right.0.sending(now, 1).is_none());
    let own = right.send(now);
    assert_eq!(kind(&own), 1, "it begins a handshake of its own");
    let keepalive = left.reply(now, &response);
    assert!(!right.0.waits(now));
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
    let waited = right.next_waiting(now).expect("what waited leaves now");
    assert_eq!(left.open(now, &waited), Opened::Packet(60));
    assert_eq!(right.again(now), None, "its own handshake is over");
}

#[test]
fn packets_in_flight_open_after_new_keys() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    shake(now, &mut left, &mut right);
    let (late, back) = (left.send(now), right.send(now));
    let now = now + seconds(1);
    shake(now, &mut left, &mut right);
    assert_eq!(right.open(now, &late), Opened::Packet(60));
    assert_eq!(left.open(now, &back), Opened::Packet(60));
    let fresh = right.send(now);
    assert_eq!(left.open(now, &fresh), Opened::Packet(60));
}

#[test]
fn both_may_begin_at_once() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let (ours, theirs) = (left.send(now), right.send(now));
    let (answer, response) = (left.reply(now, &theirs), right.reply(now, &ours));
    let (confirm, confirm_back) = (left.reply(now, &response), right.reply(now, &answer));
    assert_eq!(right.open(now, &confirm), Opened::Nothing);
    assert_eq!(left.open(now, &confirm_back), Opened::Nothing);
    for _ in 0..3 {
        let (there, back) = (left.send(now), right.send(now));
        assert_eq!(right.open(now, &there), Opened::Packet(60));
        assert_eq!(left.open(now, &back), Opened::Packet(60));
    }
}

#[test]
fn one_response_is_accepted_and_only_to_the_last_initiation() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let first = left.send(now);
    let late = right.reply(now, &first);
    let again = left.again(now + milliseconds(200)).expect("it is sent again");
    assert_eq!(again, first, "the same message, so that an answer to either will do");
    assert_eq!(right.open(now + milliseconds(300), &again), Opened::Rejected, "it came already");
    let now = now + milliseconds(600);
    let second = left.again(now).expect("it is begun anew");
    assert_ne!(second, first);
    assert_eq!(left.open(now, &late), Opened::Rejected, "that handshake is given up");
    let response = right.reply(now, &second);
    left.reply(now, &response);
    assert_eq!(left.open(now, &response), Opened::Rejected, "a response is used once");
    assert_eq!(left.again(now), None, "there is none under way");
}

#[test]
fn an_answer_to_a_repeated_initiation_will_do() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let first = left.send(now);
    let response = right.reply(now + milliseconds(200), &first);
    left.again(now + milliseconds(200)).expect("it is sent again");
    left.reply(now + milliseconds(400), &response);
}

#[test]
fn initiations_are_taken_in_order_once_and_not_too_often() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let begin = |left: &mut Side| written(|out| left.0.begin(now, out)).expect("an initiation");
    let (first, second, third) = (begin(&mut left), begin(&mut left), begin(&mut left));
    right.reply(now, &second);
    assert_eq!(right.open(now + milliseconds(19), &third), Opened::Rejected, "too soon");
    assert_eq!(right.open(now + milliseconds(40), &second), Opened::Rejected, "a replay");
    assert_eq!(right.open(now + milliseconds(60), &first), Opened::Rejected, "older than the last");
    right.reply(now + milliseconds(80), &third);
}

#[test]
fn dates_rise_although_the_clock_is_put_back() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    for (step, wall) in [1e9, 1e9, 1e9 + 5.0, 4e8, 0.0, 1e9 + 6.0].into_iter().enumerate() {
        set_wall(wall);
        shake(now + seconds(step as u64), &mut left, &mut right);
    }
}

#[test]
fn dates_are_as_the_day_says_after_a_sleep_and_no_more_exact_than_needed() {
    let ours = identity(LEFT);
    let read = |stamp: [u8; 12]| {
        let seconds = u64::from_be_bytes(*stamp.first_chunk().expect("8 bytes")) - ((1 << 62) + 10);
        (seconds, u32::from_be_bytes(*stamp.last_chunk().expect("4 bytes")))
    };
    set_wall(1e9 + 0.9);
    let (second, nanosecond) = read(ours.stamp());
    assert_eq!(second, 1_000_000_000);
    assert!((883_000_000..900_000_000).contains(&nanosecond), "{nanosecond}");
    set_wall(1e9 + 0.900_001);
    assert_eq!(read(ours.stamp()), (second, nanosecond + 1), "only as much later as it must be");
    set_wall(1e9 + 86_400.0);
    assert_eq!(read(ours.stamp()).0, 1_000_086_400 - 1, "rounded down, and no day behind");
}

#[test]
fn the_initiator_is_read_from_the_initiation_and_handed_on() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let (mut initiation, ours) = (left.send(now), identity(RIGHT));
    let read = Initiation::read(&ours, &initiation).expect("it is for us");
    assert_eq!(*read.key(), public(LEFT));
    let mut out = [0; MAX_CONTROL];
    assert_eq!(right.0.answer(now, read, &mut out), Opened::Reply(92));
    left.reply(now, &out[..92]);
    let read = Initiation::read(&ours, &initiation).expect("it is for us");
    assert_eq!(right.0.answer(now + seconds(1), read, &mut out), Opened::Rejected, "a replay");
    initiation[60] ^= 1;
    assert!(Initiation::read(&ours, &initiation).is_none());
    assert!(Initiation::read(&identity([3; 32]), &initiation).is_none());
}

#[test]
fn a_session_answers_nobody_but_its_peer() {
    let now = Instant::now();
    let (mut stranger, mut right) = (Side::new([1; 32], RIGHT, 1), Side::new(RIGHT, LEFT, 9));
    let initiation = stranger.send(now);
    assert_eq!(right.open(now, &initiation), Opened::Rejected);
}

#[test]
fn every_flipped_bit_of_a_handshake_is_noticed() {
    let now = Instant::now();
    let (mut left, mut right) = pair();
    let initiation = left.send(now);
    // The second MAC counts only where a cookie was asked for.
    for bit in 0..8 * (INITIATION - 16) {
        let mut forged = initiation.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(right.open(now + milliseconds(20 * bit as u64), &forged), Opened::Rejected, "bit {bit}");
    }
    let response = right.reply(now + seconds(60), &initiation);
    for bit in 0..8 * (RESPONSE - 16) {
        let mut forged = response.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(left.open(now, &forged), Opened::Rejected, "bit {bit}");
    }
    left.reply(now, &response);
}

#[test]
fn a_restarted_session_has_no_keys_and_another_index() {
    let now = Instant::now();
    let (mut left, mut right) = shaken(now);
    let old = left.send(now);
    right.0.restart(77);
    assert_eq!((right.0.index(), right.0.handshake_age(now)), (77, None));
    assert_eq!(right.open(now, &old), Opened::Rejected);
    assert_eq!(kind(&right.send(now)), 1);
}

#[test]
fn indexes_are_not_used_twice_while_they_live() {
    let now = Instant::now();
    let (mut left, mut right) = shaken(now);
    for step in 1..600 {
        let now = now + milliseconds(20 * step);
        let initiation = written(|out| left.0.begin(now, out)).expect("an initiation");
        right.reply(now, &initiation); // whose response is lost
    }
    let (late, now) = (right.send(now), now + seconds(20));
    assert_eq!(left.open(now, &late), Opened::Packet(60), "the keys from before are still there");
}

#[test]
fn what_is_no_ip_packet_is_not_handed_on_and_padding_is_cut() {
    let now = Instant::now();
    let (mut left, mut right) = shaken(now);
    let mut padded = inner(60);
    padded.resize(64, 0);
    let mut v4 = vec![0; 32];
    (v4[0], v4[3]) = (0x45, 28);
    for (packet, opened) in [
        (padded, Opened::Packet(60)),
        (v4, Opened::Packet(28)),
        (vec![0x60; 39], Opened::Rejected),
        (vec![0x60; 60], Opened::Rejected),
        (vec![0x10; 60], Opened::Rejected),
    ] {
        let sealed = left.seal(now, &packet).expect("there are keys");
        assert_eq!(sealed.len(), packet.len() + OVERHEAD);
        assert_eq!(right.open(now, &sealed), opened);
    }
}

#[test]
fn the_oldest_of_too_many_waiting_packets_makes_room() {
    let (now, (mut left, mut right)) = (Instant::now(), pair());
    let initiation = left.seal(now, &inner(40)).expect("an initiation");
    for length in 41..=40 + 256 {
        assert_eq!(left.seal(now, &inner(length)), None);
    }
    let response = right.reply(now, &initiation);
    let keepalive = left.reply(now, &response);
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
    for length in 41..=40 + 256 {
        let sealed = left.next_waiting(now).expect("it waits");
        assert_eq!(right.open(now, &sealed), Opened::Packet(length));
    }
    assert_eq!(left.next_waiting(now), None);
}
