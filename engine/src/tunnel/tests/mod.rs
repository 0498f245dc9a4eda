//! Two sessions and a clock that only tests move.

mod floods;
mod interop;
mod numbers;
mod stories;
mod storm;
mod timers;

use std::cell::Cell;
use std::mem::size_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cookie::COOKIE_REPLY;
use super::handshake::{INITIATION, RESPONSE};
use super::*;

pub const LEFT: [u8; 32] = [0x48; 32];
pub const RIGHT: [u8; 32] = [0x50; 32];

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(1) };
    static WALL: Cell<Duration> = const { Cell::new(Duration::from_secs(1_700_000_000)) };
}

/// The same bytes in every run, and no two alike.
fn random(bytes: &mut [u8]) {
    for byte in bytes {
        SEED.set(SEED.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        *byte = (SEED.get() >> 56) as u8;
    }
}

fn set_wall(seconds: f64) {
    WALL.set(Duration::from_secs_f64(seconds));
}

fn identity(private: [u8; 32]) -> Arc<Identity> {
    Identity::new(&private, Sources { random, wall: || WALL.get() })
}

fn public(private: [u8; 32]) -> [u8; 32] {
    identity(private).public
}

/// An IPv6 packet.
fn inner(length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    packet
}

fn kind(message: &[u8]) -> u8 {
    message[0]
}

/// A side whose results are owned, for short tests.
struct Side(Session);

impl Side {
    fn new(private: [u8; 32], peer: [u8; 32], index: u32) -> Self {
        Self(Session::new(identity(private), &public(peer), index))
    }

    fn seal(&mut self, now: Instant, packet: &[u8]) -> Option<Vec<u8>> {
        written(|out| self.0.seal(now, packet, out))
    }

    fn tick(&mut self, now: Instant) -> Option<Vec<u8>> {
        written(|out| self.0.tick(now, out))
    }

    fn again(&mut self, now: Instant) -> Option<Vec<u8>> {
        written(|out| self.0.initiate_again(now, out))
    }

    fn next_waiting(&mut self, now: Instant) -> Option<Vec<u8>> {
        written(|out| self.0.next_waiting(now, out))
    }

    fn open(&mut self, now: Instant, message: &[u8]) -> Opened {
        let mut out = vec![0; 2048];
        self.0.open(now, message, &mut out)
    }

    /// Open a message that has to be answered.
    fn reply(&mut self, now: Instant, message: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 2048];
        let Opened::Reply(length) = self.0.open(now, message, &mut out) else { panic!("no reply") };
        out.truncate(length);
        out
    }

    fn send(&mut self, now: Instant) -> Vec<u8> {
        self.seal(now, &inner(60)).expect("something to send")
    }
}

fn written(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
    let mut out = vec![0; 2048];
    let length = write(&mut out)?;
    out.truncate(length);
    Some(out)
}

fn pair() -> (Side, Side) {
    (Side::new(LEFT, RIGHT, 7), Side::new(RIGHT, LEFT, 9))
}

/// Let `left` begin a handshake that both complete; nothing waits after it.
fn shake(now: Instant, left: &mut Side, right: &mut Side) {
    let initiation = written(|out| left.0.begin(now, out)).expect("an initiation");
    let response = right.reply(now, &initiation);
    let keepalive = left.reply(now, &response);
    assert_eq!(right.open(now, &keepalive), Opened::Nothing);
}

fn shaken(now: Instant) -> (Side, Side) {
    let (mut left, mut right) = pair();
    shake(now, &mut left, &mut right);
    (left, right)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn garbage_is_rejected() {
    let (now, (mut left, _)) = (Instant::now(), pair());
    for length in 0..200 {
        for kind in 0..6 {
            let mut datagram = vec![0xa5; length];
            if length >= 4 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            addressee(&datagram);
            assert_eq!(left.open(now, &datagram), Opened::Rejected);
        }
    }
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 320, "{} bytes", size_of::<Session>());
    assert_eq!((INITIATION, RESPONSE, COOKIE_REPLY), (148, 92, 64));
}
