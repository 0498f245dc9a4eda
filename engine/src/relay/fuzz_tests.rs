//! Damaged input to a relay, from `engine/fuzz-corpus`: whoever sends it loses its connection at most, everyone else
//! goes on, nothing grows, and nobody gets what is meant for another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::hub::{ConnectionId, Hub};
use super::input::Input;
use crate::noise::{corpus, Noise};
use crate::wire::derp::{self, Decoder, Frame};
use crate::wire::keys::{self, Key, SharedKey};

const RELAY_KEY: Key = [3; 32];
const CASES: usize = 4000;
/// What a relay may hold for a client that reads nothing: its queues, and what is framed for it.
const MAX_HELD: usize = (256 << 10) + (1 << 20) + (64 << 10);

struct World {
    hub: Hub,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { hub: Hub::new(&RELAY_KEY, Arc::new(Counters::default())), now: Instant::now() }
    }

    fn login(&mut self, seed: u8) -> (ConnectionId, Key) {
        let private = keys::clamp([seed; 32]);
        let own = keys::public_key(&private);
        let shared = SharedKey::new(&private, &keys::public_key(&RELAY_KEY));
        let id = self.hub.open(self.now, false);
        let mut login = Vec::new();
        derp::put_client_info(&mut login, &shared, &own, &[seed; 24], &derp::ClientInfo::default());
        self.hub.handle_bytes(self.now, id, &mut login).unwrap();
        self.read(id);
        (id, own)
    }

    /// Take all that waits for a connection.
    fn read(&mut self, id: ConnectionId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.hub.unwritten(id).to_vec();
            if bytes.is_empty() {
                return all;
            }
            self.hub.handle_written(self.now, id, bytes.len());
            all.extend_from_slice(&bytes);
        }
    }

    /// Feed bytes in reads of some length; says whether the connection still stands.
    fn feed(&mut self, noise: &mut Noise, id: ConnectionId, bytes: &mut [u8]) -> bool {
        let read = 1 + noise.below(bytes.len().max(1));
        for chunk in bytes.chunks_mut(read) {
            if let Err(fault) = self.hub.handle_bytes(self.now, id, chunk) {
                self.hub.farewell(id, fault);
                assert!(self.hub.unwritten(id).len() <= MAX_HELD);
                self.hub.close(id);
                return false;
            }
            assert!(self.hub.unwritten(id).len() <= MAX_HELD);
        }
        true
    }

    /// See that two others can still talk, and hear nothing but each other.
    fn check(&mut self, left: (ConnectionId, Key), right: (ConnectionId, Key), number: usize) {
        self.read(right.0);
        let packet = number.to_be_bytes();
        let mut bytes = Vec::new();
        derp::encode(&mut bytes, &Frame::SendPacket { to: right.1, packet: &packet });
        self.hub.handle_bytes(self.now, left.0, &mut bytes).unwrap();
        let mut expected = Vec::new();
        derp::encode(&mut expected, &Frame::RecvPacket { from: left.1, packet: &packet });
        assert_eq!(self.read(right.0), expected);
    }
}

#[test]
fn damaged_frames_of_a_client_harm_nobody_else() {
    let (frames, mut noise) = (corpus("derp-client"), Noise::new(1));
    let mut world = World::new();
    let (left, right) = (world.login(1), world.login(4));
    for number in 0..CASES {
        let (attacker, own) = world.login(5);
        let mut bytes = noise.mutate(&frames[number % frames.len()]);
        if world.feed(&mut noise, attacker, &mut bytes) {
            // It still is who it logged in as, and gets what is for it.
            let mut decoder = Decoder::new();
            decoder.feed(&world.read(attacker));
            while let Ok(Some(frame)) = decoder.next_frame() {
                assert!(!matches!(frame, Frame::ServerInfo { .. }), "one login is enough");
                if let Frame::RecvPacket { from, .. } = frame {
                    assert_eq!(from, own, "only it sends to itself here");
                }
            }
            world.hub.close(attacker);
        }
        world.check(left, right, number);
        world.now += Duration::from_millis(1);
    }
    assert_eq!(world.hub.all().len(), 2);
}

#[test]
fn damaged_logins_let_nobody_in_as_someone_else() {
    let (logins, mut noise) = (corpus("derp-login"), Noise::new(2));
    let mut world = World::new();
    let (left, right) = (world.login(1), world.login(4));
    let known = keys::public_key(&keys::clamp([9; 32]));
    for number in 0..CASES {
        let id = world.hub.open(world.now, false);
        let mut bytes = noise.mutate(&logins[number % logins.len()]);
        if number % 3 == 0 && bytes.len() > 37 {
            bytes[5..37].copy_from_slice(&right.1); // as someone who is here
        }
        if world.feed(&mut noise, id, &mut bytes) {
            // Whatever is sent to others reaches them only, and this one only if it is the known client.
            let mut packet = Vec::new();
            derp::encode(&mut packet, &Frame::SendPacket { to: known, packet: b"secret" });
            world.hub.handle_bytes(world.now, left.0, &mut packet).unwrap();
            let got = world.read(id);
            assert!(!got.windows(6).any(|window| window == b"secret") || bytes.windows(32).any(|part| part == known));
            world.hub.close(id);
        }
        world.check(left, right, number);
    }
}

#[test]
fn damaged_websocket_frames_harm_nobody_else() {
    let (frames, mut noise) = (corpus("websocket"), Noise::new(3));
    let mut world = World::new();
    let (left, right) = (world.login(1), world.login(4));
    for number in 0..CASES {
        let id = world.hub.open(world.now, true);
        let mut bytes = noise.mutate(&frames[number % frames.len()]);
        world.feed(&mut noise, id, &mut bytes);
        world.hub.close(id);
        world.check(left, right, number);
    }
}

#[test]
fn a_reader_takes_any_damage_in_any_split_the_same_way() {
    let mut noise = Noise::new(4);
    for (kind, websocket) in [("derp-client", false), ("derp-login", false), ("websocket", true)] {
        let inputs = corpus(kind);
        for number in 0..CASES / 4 {
            let bytes = noise.mutate(&inputs[number % inputs.len()]);
            let whole = outcome(websocket, &bytes, bytes.len().max(1));
            let cut = outcome(websocket, &bytes, 1 + noise.below(50));
            assert_eq!(whole, cut, "{kind} {number}");
        }
    }
}

/// What a reader makes of an input that arrives in reads of `read` bytes.
fn outcome(websocket: bool, bytes: &[u8], read: usize) -> (Vec<(u8, usize)>, bool) {
    let mut input = Input::new(websocket);
    let mut items = Vec::new();
    for chunk in bytes.to_vec().chunks_mut(read) {
        let taken = input.feed(chunk, |item| {
            items.push(match item {
                super::input::Item::Frame { kind, body } => (kind, body.len()),
                super::input::Item::Skipped { kind } => (kind, usize::MAX),
                super::input::Item::WebSocketPing(payload) => (0, payload.len()),
            });
            Ok(())
        });
        if taken.is_err() {
            return (items, false);
        }
    }
    (items, true)
}
