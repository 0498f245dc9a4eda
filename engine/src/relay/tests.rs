//! The hub with time passed in, and the readers with input cut anywhere. Sockets are tested from Python.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::hub::{ConnectionId, Hub};
use super::input::{Fault, Input, Item};
use super::outbox::Outbox;
use super::websocket::{self, CloseCode, Decoder, Piece};
use crate::wire::derp::{self, Frame, GoneReason};
use crate::wire::keys::{self, Key, SharedKey};

const RELAY_KEY: Key = [3; 32];

struct World {
    hub: Hub,
    counters: Arc<Counters>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let counters = Arc::new(Counters::default());
        Self { hub: Hub::new(&RELAY_KEY, Arc::clone(&counters)), counters, now: Instant::now() }
    }

    /// Connect a client whose private key is made of `seed`; returns it and its public key.
    fn client(&mut self, seed: u8) -> (ConnectionId, Key) {
        let private = keys::clamp([seed; 32]);
        let public = keys::public_key(&private);
        let shared = SharedKey::new(&private, &keys::public_key(&RELAY_KEY));
        let id = self.hub.open(self.now, false);
        let mut login = Vec::new();
        derp::put_client_info(&mut login, &shared, &public, &[seed; 24], &derp::ClientInfo::default());
        self.hub.handle_bytes(self.now, id, &mut login).unwrap();
        self.read(id);
        (id, public)
    }

    fn send(&mut self, id: ConnectionId, frame: &Frame<'_>) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        derp::encode(&mut bytes, frame);
        self.hub.handle_bytes(self.now, id, &mut bytes)
    }

    /// Take all that waits for a connection.
    fn read(&mut self, id: ConnectionId) -> Vec<String> {
        let mut decoder = derp::Decoder::new();
        let mut frames = Vec::new();
        loop {
            let bytes = self.hub.unwritten(id).to_vec();
            if bytes.is_empty() {
                return frames;
            }
            self.hub.handle_written(self.now, id, bytes.len());
            decoder.feed(&bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(format!("{frame:?}"));
            }
        }
    }

    fn pass(&mut self, seconds: u64) -> Vec<ConnectionId> {
        self.now += Duration::from_secs(seconds);
        self.hub.handle_timeout(self.now)
    }
}

#[test]
fn idle_clients_hear_from_the_relay_each_minute() {
    let mut world = World::new();
    let (id, _) = world.client(1);
    for _ in 0..59 {
        assert_eq!(world.pass(1), []);
    }
    assert_eq!(world.read(id), [""; 0]);
    world.pass(6);
    assert_eq!(world.read(id), ["KeepAlive"]);
    world.send(id, &Frame::NotePreferred { home: true }).unwrap();
    world.pass(60);
    assert_eq!(world.read(id), ["KeepAlive"]);
}

#[test]
fn whoever_says_nothing_is_closed_after_two_minutes() {
    let mut world = World::new();
    let (silent, _) = world.client(1);
    let (alive, _) = world.client(2);
    world.pass(100);
    world.read(silent);
    world.read(alive);
    world.send(alive, &Frame::Ping([0; 8])).unwrap();
    world.read(alive);
    assert_eq!(world.pass(20), [silent]);
}

#[test]
fn whoever_does_not_log_in_is_closed_after_twenty_seconds() {
    let mut world = World::new();
    let id = world.hub.open(world.now, false);
    world.read(id);
    assert_eq!(world.pass(19), []);
    // Half a header is no login.
    world.hub.handle_bytes(world.now, id, &mut [2, 0]).unwrap();
    assert_eq!(world.pass(1), [id]);
}

#[test]
fn whoever_takes_nothing_is_closed_after_two_seconds() {
    let mut world = World::new();
    let (sender, _) = world.client(1);
    let (stalled, key) = world.client(2);
    world.send(sender, &Frame::SendPacket { to: key, packet: b"x" }).unwrap();
    world.hub.handle_written(world.now, stalled, 0);
    assert_eq!(world.pass(1), []);
    world.hub.handle_written(world.now, stalled, 3);
    assert_eq!(world.pass(1), [], "progress counts");
    world.hub.handle_written(world.now, stalled, 0);
    assert_eq!(world.pass(2), [stalled]);
}

#[test]
fn gone_peers_are_told_of_once_and_only_to_the_connection_they_sent_to() {
    let mut world = World::new();
    let (leaver, leaver_key) = world.client(1);
    let (friend, friend_key) = world.client(2);
    for _ in 0..3 {
        world.send(leaver, &Frame::SendPacket { to: friend_key, packet: b"x" }).unwrap();
    }
    world.hub.close(friend);
    let (friend_again, _) = world.client(2);
    world.hub.close(leaver);
    assert_eq!(world.read(friend_again), [""; 0], "that connection never got anything from it");

    let (leaver, _) = world.client(1);
    world.send(leaver, &Frame::SendPacket { to: friend_key, packet: b"x" }).unwrap();
    world.hub.close(leaver);
    world.hub.close(leaver);
    let gone = Frame::PeerGone { key: leaver_key, reason: GoneReason::Disconnected };
    assert_eq!(world.read(friend_again)[1..], [format!("{gone:?}")]);
}

#[test]
fn a_long_lived_client_forgets_short_lived_ones() {
    let mut world = World::new();
    let (agent, _) = world.client(1);
    for round in 0..100 {
        let (visitor, key) = world.client(2 + round);
        world.send(agent, &Frame::SendPacket { to: key, packet: b"x" }).unwrap();
        world.hub.close(visitor);
    }
    assert_eq!(world.hub.remembered_by(agent), 100);
    world.pass(1);
    assert_eq!(world.hub.remembered_by(agent), 0);
}

#[test]
fn not_here_is_said_three_times_and_then_once_a_second() {
    let mut world = World::new();
    let (id, _) = world.client(1);
    let mut disco = [0; 80];
    disco[..6].copy_from_slice(&crate::wire::disco::MAGIC);
    let mut said = Vec::new();
    for _ in 0..3 {
        for _ in 0..10 {
            world.send(id, &Frame::SendPacket { to: [9; 32], packet: &disco }).unwrap();
        }
        said.push(world.read(id).len());
        world.now += Duration::from_secs(1);
    }
    assert_eq!(said, [3, 1, 1]);
}

#[test]
fn a_slot_used_again_is_another_connection() {
    let mut world = World::new();
    let (old, _) = world.client(1);
    world.hub.close(old);
    let (new, _) = world.client(2);
    assert_eq!(old.slot, new.slot);
    assert_ne!(old, new);
    assert_eq!(world.send(old, &Frame::Ping([0; 8])), Err(Fault::Closed));
    assert_eq!(world.hub.at(new.slot), Some(new));
    assert_eq!(world.counters.snapshot().connections, 1);
}

#[test]
fn a_congested_receiver_is_named_until_it_stalls() {
    let mut world = World::new();
    let (sender, _) = world.client(1);
    let (receiver, key) = world.client(2);
    let packet = [0; 1200];
    while world.hub.congested(world.now).is_none() {
        world.send(sender, &Frame::SendPacket { to: key, packet: &packet }).unwrap();
    }
    assert!(world.hub.is_congested(receiver));
    world.hub.handle_written(world.now, receiver, 0);
    world.now += Duration::from_millis(51);
    world.send(sender, &Frame::SendPacket { to: key, packet: &packet }).unwrap();
    assert_eq!(world.hub.congested(world.now), None, "nobody waits for who does not move");
    world.read(receiver);
    assert!(!world.hub.is_congested(receiver));
    assert_eq!(world.counters.snapshot().packets_sent, world.counters.snapshot().packets_received);
}

#[test]
fn full_queues_drop_the_oldest_and_count_it() {
    let now = Instant::now();
    let mut outbox = Outbox::new(false);
    let mut dropped = 0;
    for number in 0..2000_u32 {
        let mut packet = vec![0; 1200];
        packet[..4].copy_from_slice(&number.to_be_bytes());
        dropped += outbox.put_packet(now, &[1; 32], &packet).dropped_head;
    }
    let mut decoder = derp::Decoder::new();
    let mut numbers = Vec::new();
    while !outbox.unwritten().is_empty() {
        // Not a whole number of frames.
        let bytes = outbox.unwritten()[..outbox.unwritten().len().min(10_001)].to_vec();
        outbox.advance(now + Duration::from_millis(5), bytes.len(), |waited| {
            assert_eq!(waited, Duration::from_millis(5))
        });
        decoder.feed(&bytes);
        while let Some(Frame::RecvPacket { packet, .. }) = decoder.next_frame().unwrap() {
            numbers.push(u32::from_be_bytes(*packet.first_chunk().unwrap()));
        }
    }
    assert_eq!(numbers.len() + dropped, 2000);
    assert!(numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&1999));
    assert!(dropped > 1000);
}

#[test]
fn a_packet_of_64_kib_finds_room_by_dropping_many() {
    let now = Instant::now();
    let mut outbox = Outbox::new(true);
    let large = vec![0; derp::MAX_PACKET_LEN];
    let outcomes: Vec<_> = (0..100).map(|_| outbox.put_packet(now, &[1; 32], &large)).collect();
    assert!(outcomes.iter().all(|outcome| outcome.dropped_tail == 0));
    assert!(outbox.queued_packets().1 <= 32, "two MiB");
}

/// Mask a message as a client does, in fragments, with a ping between them.
fn fragments(stream: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let count = stream.chunks(length).count();
    for (index, chunk) in stream.chunks(length).enumerate() {
        let opcode = if index == 0 { 2 } else { 0 };
        let fin = if index + 1 == count { 0x80 } else { 0 };
        put_masked(&mut out, fin | opcode, chunk);
        put_masked(&mut out, 0x89, b"hi");
    }
    out
}

fn put_masked(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let mask = [7, 77, 177, 250];
    let mut unmasked = Vec::new();
    websocket::put_message_header(&mut unmasked, payload.len());
    unmasked[0] = first;
    unmasked[1] |= 0x80;
    out.extend_from_slice(&unmasked);
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[test]
fn websocket_input_may_be_cut_anywhere() {
    let stream: Vec<u8> = (0..70_000_u32).map(|number| (number % 251) as u8).collect();
    for (fragment, read) in [(70_000, 70_000), (1, 7), (125, 64), (126, 1), (65_535, 1000), (66_000, 4096)] {
        let mut decoder = Decoder::default();
        let (mut bytes, mut pings) = (Vec::new(), 0);
        for chunk in fragments(&stream, fragment).chunks_mut(read) {
            let mut input = chunk;
            while let Some(piece) = decoder.next_piece(&mut input).unwrap() {
                match piece {
                    Piece::Bytes(part) => bytes.extend_from_slice(part),
                    Piece::Ping(payload) => {
                        assert_eq!(payload, b"hi");
                        pings += 1;
                    }
                    Piece::Close => panic!("nobody closed"),
                }
            }
        }
        assert!(bytes == stream, "fragments of {fragment}, reads of {read}");
        assert_eq!(pings, stream.chunks(fragment).count());
    }
}

#[test]
fn websocket_rules_are_kept() {
    let rows: [(&[u8], CloseCode); 8] = [
        (&[0x82, 0x01, 0], CloseCode::ProtocolError),
        (&[0xc2, 0x80, 0, 0, 0, 0], CloseCode::ProtocolError),
        (&[0x81, 0x80, 0, 0, 0, 0], CloseCode::UnsupportedData),
        (&[0x80, 0x80, 0, 0, 0, 0], CloseCode::ProtocolError),
        (&[0x83, 0x80, 0, 0, 0, 0], CloseCode::ProtocolError),
        (&[0x09, 0x80, 0, 0, 0, 0], CloseCode::ProtocolError),
        (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], CloseCode::ProtocolError),
        (&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0], CloseCode::ProtocolError),
    ];
    for (bytes, code) in rows {
        let mut input = bytes.to_vec();
        assert_eq!(Decoder::default().next_piece(&mut &mut input[..]), Err(code), "{bytes:x?}");
    }
    let mut second_start = Vec::new();
    put_masked(&mut second_start, 0x02, b"");
    put_masked(&mut second_start, 0x02, b"");
    let refused = Decoder::default().next_piece(&mut &mut second_start[..]);
    assert_eq!(refused, Err(CloseCode::ProtocolError), "a message inside a message");
}

#[test]
fn an_input_reads_the_same_frames_in_any_split() {
    let mut stream = Vec::new();
    derp::encode(&mut stream, &Frame::ClientInfo { key: [1; 32], sealed: &[2; 60] });
    derp::encode(&mut stream, &Frame::SendPacket { to: [3; 32], packet: &[4; 2000] });
    derp::encode(&mut stream, &Frame::Health("not for relays"));
    derp::encode(&mut stream, &Frame::Ping([5; 8]));
    stream.extend_from_slice(&[0x77, 0, 0, 0, 0]);
    let expected = ["2:92", "4:2032", "skip 20", "18:8", "skip 119"];
    for websocket in [false, true] {
        for read in [1, 2, 5, 6, 100, 2000, 100_000] {
            let mut input = Input::new(websocket);
            let mut bytes = if websocket { fragments(&stream, 33) } else { stream.clone() };
            let mut items = Vec::new();
            for chunk in bytes.chunks_mut(read) {
                let sink = |item: Item<'_>| {
                    match item {
                        Item::Frame { kind, body } => items.push(format!("{kind}:{}", body.len())),
                        Item::Skipped { kind } => items.push(format!("skip {kind}")),
                        Item::WebSocketPing(_) => {}
                    }
                    Ok(())
                };
                input.feed(chunk, sink).unwrap();
            }
            assert_eq!(items, expected, "reads of {read}");
        }
    }
}

#[test]
fn noise_closes_a_connection_and_nothing_else() {
    let mut world = World::new();
    let (good, _) = world.client(1);
    let mut state = 88_172_645_463_325_252_u64;
    for round in 0..200 {
        let id = if round % 2 == 0 { world.hub.open(world.now, round % 4 == 0) } else { world.client(2).0 };
        let mut noise: Vec<u8> = (0..200)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        let _ = world.hub.handle_bytes(world.now, id, &mut noise);
        world.hub.close(id);
    }
    assert!(world.send(good, &Frame::Ping([1; 8])).is_ok());
    assert_eq!(world.read(good), [format!("{:?}", Frame::Pong([1; 8]))]);
    assert_eq!(world.counters.snapshot().clients, 1);
}
