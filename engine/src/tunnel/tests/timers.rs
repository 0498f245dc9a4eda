//! What time does: WireGuard's section 6, each rule a story.

use super::*;

/// Tick each second from `from` to `to`, both included; return what was written, and when.
fn ticks(side: &mut Side, start: Instant, from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
    (from..=to).filter_map(|second| Some((second, side.tick(start + seconds(second))?))).collect()
}

#[test]
fn the_initiator_renews_keys_of_120_seconds_when_it_sends() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    left.send(start + milliseconds(119_900));
    assert_eq!(left.tick(start + milliseconds(119_950)), None);
    let now = start + seconds(120);
    assert_eq!(kind(&left.send(now)), 4, "the old keys are still used");
    assert_eq!(kind(&right.send(now)), 4);
    assert_eq!(right.tick(now), None, "the responder leaves it to the initiator");
    let initiation = left.tick(now).expect("new keys are asked for");
    assert!(initiates(&initiation));
    assert_eq!(left.tick(now + seconds(1)), None, "once");
    let response = right.reply(now, &initiation);
    let keepalive = left.reply(now, &response);
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
    assert_eq!(left.0.handshake_age(now + seconds(2)), Some(seconds(2)));
    left.send(now + seconds(100));
    assert_eq!(left.tick(now + seconds(101)), None, "the new keys are young");
}

#[test]
fn an_initiator_that_only_receives_renews_keys_of_165_seconds() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    let early = right.send(start + seconds(164));
    assert_eq!(left.open(start + seconds(164), &early), Opened::Packet(60));
    assert_eq!(left.tick(start + seconds(164)), None);
    let late = right.send(start + seconds(165));
    assert_eq!(left.open(start + seconds(165), &late), Opened::Packet(60));
    assert!(initiates(&left.tick(start + seconds(165)).expect("an initiation")));
}

#[test]
fn nobody_uses_keys_of_180_seconds() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    let (just, sent) = (start + milliseconds(179_999), start + seconds(180));
    let packet = left.send(just);
    assert_eq!(kind(&packet), 4);
    assert_eq!(right.open(sent, &packet), Opened::Rejected);
    assert!(left.0.sending(sent, 1).is_none());
    assert_eq!(kind(&left.send(sent)), 1, "a handshake instead");
    assert_eq!((left.0.handshake_age(just), left.0.handshake_age(sent)), (Some(just - start), None));
}

#[test]
fn nothing_is_left_of_keys_that_nobody_may_use() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    let held = |side: &Side| side.0.keys().count();
    shake(start + seconds(1), &mut left, &mut right);
    assert_eq!((held(&left), held(&right)), (2, 2));
    for second in [180, 181] {
        left.tick(start + seconds(second));
        right.tick(start + seconds(second));
    }
    assert_eq!((held(&left), held(&right)), (0, 0));
    // WireGuard's own limit for this is 540 s.
    assert!(ticks(&mut left, start, 182, 600).is_empty(), "and nobody is bothered");
}

#[test]
fn minutes_of_silence_are_followed_by_a_handshake_that_counts_from_now() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    let now = start + seconds(2000);
    let initiation = left.send(now);
    assert!(initiates(&initiation), "although nobody ticked");
    let response = right.reply(now, &initiation);
    assert_eq!(left.tick(now), None);
    let keepalive = left.reply(now, &response);
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
    let sealed = left.next_waiting(now).expect("what waited");
    assert_eq!(right.open(now, &sealed), Opened::Packet(60));
    assert_eq!(left.0.handshake_age(now), Some(seconds(0)));
    let later = now + seconds(100);
    assert_eq!((kind(&left.send(later)), kind(&right.send(later))), (4, 4));
}

#[test]
fn keys_age_while_the_machine_sleeps() {
    let start = Instant::now();
    let (mut left, _) = shaken(start);
    left.0.slept(seconds(100));
    assert_eq!(left.0.handshake_age(start), Some(seconds(100)));
    assert_eq!(kind(&left.send(start + seconds(79))), 4);
    assert_eq!(kind(&left.send(start + seconds(80))), 1);
    let (mut left, _) = shaken(start);
    left.0.slept(Duration::MAX);
    assert_eq!((left.0.handshake_age(start), kind(&left.send(start))), (None, 1));
}

#[test]
fn an_unanswered_handshake_is_retried_for_90_seconds_and_what_waited_is_dropped() {
    let (start, (mut left, mut right)) = (Instant::now(), pair());
    left.send(start);
    let tries = ticks(&mut left, start, 1, 300);
    assert!(tries.iter().all(|(_, message)| initiates(message)));
    let times: Vec<u64> = tries.iter().map(|(second, _)| *second).collect();
    assert!(times.windows(2).all(|pair| (5..=6).contains(&(pair[1] - pair[0]))), "{times:?}");
    assert!((5..=6).contains(&times[0]) && (84..90).contains(times.last().expect("some")), "{times:?}");
    let now = start + seconds(300);
    let initiation = left.send(now);
    let response = right.reply(now, &initiation);
    let keepalive = left.reply(now, &response);
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
    left.next_waiting(now).expect("the packet of now");
    assert_eq!(left.next_waiting(now), None, "that of then was dropped");
}

#[test]
fn whoever_wants_to_send_tries_on() {
    let (start, (mut left, _)) = (Instant::now(), pair());
    left.send(start);
    assert_eq!(left.seal(start + seconds(4), &inner(60)), None);
    // Nobody ticked, as where a process was stopped.
    let now = start + seconds(100);
    assert!(initiates(&left.send(now)));
    assert_eq!(left.tick(now + seconds(1)), None);
    assert!(initiates(&left.tick(now + seconds(6)).expect("a retry")), "a new try, with all its time");
}

#[test]
fn a_retry_waits_up_to_a_third_of_a_second_longer() {
    let start = Instant::now();
    let waits: Vec<bool> = (0..64)
        .map(|_| {
            let (mut left, _) = pair();
            left.send(start);
            assert_eq!(left.tick(start + milliseconds(4_999)), None);
            let early = left.tick(start + milliseconds(5_150)).is_some();
            assert!(early || left.tick(start + milliseconds(5_334)).is_some());
            early
        })
        .collect();
    assert!(waits.contains(&true) && waits.contains(&false));
}

#[test]
fn data_that_is_not_answered_is_answered_by_a_keepalive_after_10_seconds() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    let packet = left.send(start);
    assert_eq!(right.open(start, &packet), Opened::Packet(60));
    let sent = ticks(&mut right, start, 1, 100);
    assert_eq!(sent.iter().map(|(second, message)| (*second, message.len())).collect::<Vec<_>>(), [(10, 32)]);
    assert_eq!(left.open(start + seconds(10), &sent[0].1), Opened::Nothing);
    assert!(ticks(&mut left, start, 11, 100).is_empty(), "a keepalive is not answered");
}

#[test]
fn a_keepalive_follows_for_data_that_came_meanwhile() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    for second in [0, 5] {
        let packet = left.send(start + seconds(second));
        right.open(start + seconds(second), &packet);
    }
    let times: Vec<u64> = ticks(&mut right, start, 6, 100).iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [10, 20]);
}

#[test]
fn whoever_answers_with_data_sends_no_keepalive() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    let packet = left.send(start);
    assert_eq!(right.open(start, &packet), Opened::Packet(60));
    let back = right.send(start + seconds(3));
    assert_eq!(left.open(start + seconds(3), &back), Opened::Packet(60));
    assert!(ticks(&mut right, start, 4, 17).is_empty());
}

#[test]
fn data_that_nobody_answers_for_15_seconds_begins_a_handshake() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    for second in 0..15 {
        left.send(start + seconds(second));
        assert_eq!(left.tick(start + seconds(second)), None);
    }
    let initiation = left.tick(start + seconds(15)).expect("an initiation");
    assert!(initiates(&initiation));
    let (mut left, _) = (shaken(start).0, right.send(start));
    left.send(start);
    left.seal(start + seconds(1), &[]).expect("a keepalive");
    assert!(ticks(&mut left, start, 1, 14).is_empty());
    assert!(left.tick(start + seconds(15)).is_some());
}

#[test]
fn a_peer_that_left_is_not_looked_for_unless_there_is_something_to_send() {
    let start = Instant::now();
    let (mut left, _) = shaken(start);
    left.send(start);
    let asked = ticks(&mut left, start, 1, 200);
    assert!(asked.iter().all(|(_, message)| initiates(message)) && (2..=4).contains(&asked.len()), "{asked:?}");
    assert!(asked.last().expect("it was asked").0 <= 31);
    assert!(ticks(&mut left, start, 201, 600).is_empty());

    let (mut left, _) = shaken(start);
    let mut asked = 0;
    for second in 0..100 {
        left.send(start + seconds(second));
        asked += usize::from(left.tick(start + seconds(second)).is_some_and(|message| initiates(&message)));
    }
    assert!(asked >= 14, "it was asked {asked} times");
}

#[test]
fn hearing_anything_ends_the_wait_for_an_answer() {
    let start = Instant::now();
    let (mut left, mut right) = shaken(start);
    left.send(start);
    let keepalive = right.seal(start, &[]).expect("there are keys");
    assert_eq!(left.open(start + seconds(14), &keepalive), Opened::Nothing);
    assert!(ticks(&mut left, start, 15, 100).is_empty());
}

#[test]
fn keys_are_renewed_after_many_messages_and_end_after_more() {
    use crate::tunnel::keys::{REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
    let now = Instant::now();
    let (_, mut right) = shaken(now);
    right.0.sending(now, REKEY_AFTER_MESSAGES - 1).expect("numbers");
    assert_eq!(right.tick(now), None);
    right.0.sending(now, 1).expect("a number");
    assert!(initiates(&right.tick(now).expect("an initiation")), "by the responder, too");
    let (_, mut right) = shaken(now);
    right.0.sending(now, REJECT_AFTER_MESSAGES).expect("numbers");
    assert!(right.0.sending(now, 1).is_none());
    assert!(initiates(&right.send(now)));
}
