//! The replay window, and the seam for batches.

use super::*;
use crate::tunnel::replay::{Window, WINDOW};

#[test]
fn each_number_is_accepted_once() {
    let mut window = Window::new();
    for number in [0, 1, 2, 63, 64, 65, 8_000, 7_999, 9, 100_000] {
        assert!(window.accept(number), "{number}");
        assert!(!window.accept(number), "{number} again");
    }
}

#[test]
fn numbers_older_than_the_window_are_refused_and_all_within_it_told_apart() {
    const { assert!(WINDOW >= 2_048) };
    for highest in [WINDOW, WINDOW + 1, 10 * WINDOW + 17, u64::MAX - 5, u64::MAX] {
        let mut window = Window::new();
        assert!(window.accept(highest));
        for number in (highest - WINDOW..highest).rev() {
            assert!(window.accept(number), "{number} of {highest}");
            assert!(!window.accept(number), "{number} of {highest} again");
        }
        assert!(highest == WINDOW || !window.accept(highest - WINDOW - 1));
    }
}

/// The window against a set of all numbers, over leaps of all sizes.
#[test]
fn the_window_agrees_with_a_set() {
    let (mut window, mut seen, mut highest) = (Window::new(), std::collections::HashSet::new(), 0_u64);
    for _ in 0..200_000 {
        let mut bytes = [0; 8];
        random(&mut bytes);
        let drawn = u64::from_le_bytes(bytes);
        let reach = 1 << (drawn % 15);
        let number = (highest + (drawn >> 16) % reach).saturating_sub((drawn >> 40) % reach);
        let expected = number + WINDOW >= highest && seen.insert(number);
        assert_eq!(window.accept(number), expected, "{number} at {highest}");
        highest = highest.max(number);
    }
}

#[test]
fn a_batch_is_sealed_and_opened_with_the_keys_alone() {
    let now = Instant::now();
    let (mut left, mut right) = shaken(now);
    let before = left.send(now);
    let mut texts = [[7_u8; 48]; 3];
    let sending = left.0.sending(now, 3).expect("keys");
    let (receiver, first) = (sending.receiver, sending.first);
    for (text, counter) in texts.iter_mut().zip(first..) {
        let tag = sending.key.seal(counter, &mut text[..32]);
        text[32..].copy_from_slice(&tag);
    }
    let own = u64::from_le_bytes(*before[8..].first_chunk().expect("8 bytes"));
    assert_eq!((receiver >> 8, first), (9, own + 1));
    let after = left.send(now);
    for (text, counter) in texts.iter_mut().rev().zip((first..first + 3).rev()) {
        let length = right.0.receiving(now, receiver).expect("keys").open(counter, text);
        assert_eq!(length, Some(32));
        assert!(right.0.received(now, receiver, counter, true));
        assert!(!right.0.received(now, receiver, counter, true), "a replay");
    }
    assert_eq!(right.open(now, &before), Opened::Packet(60));
    assert_eq!(right.open(now, &after), Opened::Packet(60));
    assert!(right.0.receiving(now, receiver ^ 1).is_none(), "another generation");
    assert!(!right.0.received(now, receiver ^ 1, 900, true));
    assert!(right.0.receiving(now + seconds(180), receiver).is_none());
    assert!(!right.0.received(now + seconds(180), receiver, 900, true));
}
