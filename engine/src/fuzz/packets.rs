//! Parsers that take a whole packet.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::netstack::device::Batch;
use crate::netstack::fragment::Reassembly;
use crate::netstack::packet::{self, Ends, Inner, FRAGMENT, IPV6_HEADER};
use crate::netstack::{Netstack, Options};
use crate::span::Span;
use crate::tunnel::tsmp::Message as Tsmp;
use crate::tunnel::{
    self, Addressee, Admission, Gate, Identity, Initiation, Opened, Session, Sources, MAX_CONTROL, OVERHEAD,
};
use crate::wire::disco::{self, Message};
use crate::wire::keys::{self, SharedKey};
use crate::wire::{stun, ADDRESS_LEN};

const OURS: [u8; 32] = [0x48; 32];
const THEIRS: [u8; 32] = [0x50; 32];

/// STUN: what is read can be written again, and nothing is both a question and an answer.
pub fn stun(data: &[u8]) {
    let (request, answer) = (stun::parse_request(data), stun::parse_answer(data));
    assert!(request.is_none() || answer.is_none());
    assert!(stun::is_stun(data) || (request.is_none() && answer.is_none()));
    if let Some(answer) = answer {
        assert_eq!(stun::parse_answer(&stun::answer(&answer.txid, answer.mapped)), Some(answer));
    }
    if let Some(txid) = request {
        assert_eq!(stun::parse_request(&stun::request(&txid)), Some(txid));
    }
}

/// Disco: a message survives being written again; nobody without the key is heard.
pub fn disco(data: &[u8]) {
    let shared = SharedKey::new(&OURS, &keys::public_key(&THEIRS));
    assert_eq!(disco::open(&shared, data), None, "nobody sealed this with the key");
    let message = disco::decode(data);
    if let Some(Message::CallMeMaybe { endpoints }) = &message {
        assert!(endpoints.len() * ADDRESS_LEN <= data.len());
    }
    if let Some(message) = &message {
        assert_eq!(disco::decode(&disco::encode(message)).as_ref(), Some(message));
    }
    let mut sealed = disco::MAGIC.to_vec();
    sealed.extend_from_slice(&keys::public_key(&THEIRS));
    shared.seal_into(&mut sealed, &[7; 24], data);
    assert_eq!(disco::open(&shared, &sealed), message);
}

/// Inner packets: no answer is longer than what it answers.
pub fn inner(data: &[u8]) {
    let mut refusal = Batch::default();
    tcp(Instant::now()).refuse(data, &mut refusal);
    assert!(refusal.len() <= data.len());
    let Some(inner) = Inner::parse(data) else { return };
    let _ = (inner.ends(), inner.opens(), Tsmp::parse(inner.payload));
    assert!(inner.datagram().is_none_or(|datagram| datagram.len() <= data.len()));
    if let Some(reply) = inner.echo_reply() {
        assert!(reply.len() <= data.len());
        let read = Inner::parse(&reply).expect("our own answer is a packet");
        assert_eq!((read.source, read.destination), (inner.destination, inner.source));
        assert_eq!(packet::checksum(read.source, read.destination, packet::ICMPV6, read.payload), 0);
    }
}

/// A connection: whatever segments come (each a length, then what stands behind the addresses), it answers in segments
/// of the right size to the right peer, and of no more than was sent and a window takes.
pub fn segments(data: &[u8]) {
    const MTU: usize = 1280;
    const WINDOW: usize = 64 << 10;
    let (now, mut rest) = (Instant::now(), data);
    let ends = Ends { local: (Ipv6Addr::LOCALHOST, 7), remote: (Ipv6Addr::from(2), 9) };
    let mut netstack = tcp(now);
    let Some(id) = netstack.accept(ends) else { return };
    for step in 0_u32.. {
        let [length, tail @ ..] = rest else { break };
        let (body, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        let mut arriving = vec![0; IPV6_HEADER + body.len()];
        arriving[IPV6_HEADER..].copy_from_slice(body);
        packet::write_ipv6(&mut arriving, ends.remote.0, ends.local.0, packet::TCP);
        let now = now + Duration::from_millis(u64::from(step));
        netstack.enqueue(id, Span { start: 0, end: arriving.len() });
        netstack.ingest(now, id, &arriving, usize::MAX);
        netstack.receive(id, |bytes| (bytes.len(), ()));
        netstack.send(id, WINDOW, |room| (room.len().min(WINDOW), ()));
        let mut out = Batch::default();
        netstack.emit(now, id, &mut out, WINDOW);
        assert!(out.len() <= 2 * WINDOW);
        for answer in out.packets() {
            let inner = Inner::parse(answer).expect("what a connection sends is a packet");
            assert_eq!((inner.source, inner.destination), (ends.local.0, ends.remote.0));
            assert!(answer.len() <= MTU);
        }
    }
}

fn tcp(now: Instant) -> Netstack {
    Netstack::new(now, Options { mtu: 1280, max_window: 1 << 20, seed: 7 })
}

/// Fragments: whatever order and overlap they have, a whole is no longer than a datagram may be.
pub fn fragments(data: &[u8]) {
    let (now, mut reassembly, mut rest) = (Instant::now(), Reassembly::default(), data);
    while let [length, sender, tail @ ..] = rest {
        let (payload, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        let source = Ipv6Addr::from(u128::from(*sender & 3));
        let fragment = Inner { source, destination: Ipv6Addr::LOCALHOST, protocol: FRAGMENT, payload };
        let Some(whole) = reassembly.push(now, &fragment) else { continue };
        assert!(whole.len() <= IPV6_HEADER + usize::from(u16::MAX));
        assert_eq!(Inner::parse(&whole).map(|whole| whole.source), Some(source));
    }
}

/// A node whose randomness is the same in every run, so that an input always does the same.
fn identity(private: &[u8; 32]) -> Arc<Identity> {
    Identity::new(private, Sources { random: |bytes| bytes.fill(0x2a), wall: || Duration::from_secs(1_700_000_000) })
}

/// The messages of a handshake, and one with data.
struct Messages {
    at: Instant,
    ours: Session,
    theirs: Session,
    initiation: Vec<u8>,
    response: Vec<u8>,
    sealed: Vec<u8>,
}

impl Messages {
    fn new() -> Self {
        let now = Instant::now();
        let mut ours = Session::new(identity(&OURS), &keys::public_key(&THEIRS), 7);
        let mut theirs = Session::new(identity(&THEIRS), &keys::public_key(&OURS), 9);
        let (mut out, mut back) = (vec![0; 2048], vec![0; 2048]);
        let initiation = theirs.seal(now, &[], &mut out).expect("there are no keys yet");
        let Opened::Reply(response) = ours.open(now, &out[..initiation], &mut back) else { unreachable!() };
        let (initiation, response) = (out[..initiation].to_vec(), back[..response].to_vec());
        let Opened::Reply(keepalive) = theirs.open(now, &response, &mut out) else { unreachable!() };
        assert_eq!(ours.open(now, &out[..keepalive], &mut back), Opened::Nothing);
        let mut packet = vec![0; 100];
        packet::write_ipv6(&mut packet, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, packet::UDP);
        let sealed = theirs.seal(now, &packet, &mut out).expect("there are keys");
        let sealed = out[..sealed].to_vec();
        Self { at: now, ours, theirs, initiation, response, sealed }
    }
}

/// WireGuard: what was changed on the way is not heard, and no answer is longer than what it answers.
///
/// The input says how a message is changed: which one, how many of its bytes are kept, and which bytes are flipped;
/// what is left over is appended.
pub fn wireguard(data: &[u8]) {
    let _ = judged(data);
    let [which, kept, count, rest @ ..] = data else { return };
    let mut messages = Messages::new();
    let original = match which % 4 {
        0 => messages.initiation.clone(),
        1 => messages.response.clone(),
        _ => messages.sealed.clone(),
    };
    let mut changed = original.clone();
    changed.truncate(original.len().saturating_sub(usize::from(*kept)));
    let (flips, tail) = rest.split_at(rest.len().min(2 * usize::from(*count)));
    for flip in flips.chunks_exact(2) {
        let at = usize::from(flip[0]) % changed.len().max(1);
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= flip[1];
        }
    }
    changed.extend_from_slice(&tail[..tail.len().min(64)]);
    let admitted = judged(&changed);
    let receiver = if which % 4 == 1 { &mut messages.theirs } else { &mut messages.ours };
    let mut out = vec![0; changed.len().max(MAX_CONTROL) + OVERHEAD];
    let opened = receiver.open(messages.at, &changed, &mut out);
    if let Opened::Reply(length) = opened {
        assert!(length <= changed.len(), "{length} bytes answer {}", changed.len());
    }
    // The last 16 bytes of a handshake message are its cookie, which counts only where one was asked for.
    let signed = if which % 4 <= 1 { original.len() - 16 } else { original.len() };
    if changed.len() != original.len() || changed[..signed] != original[..signed] {
        assert!(!admitted, "a changed handshake was admitted");
        assert_eq!(opened, Opened::Rejected, "a changed message was opened");
    }
}

/// Judge a stranger's message as the engine does; says whether it was taken for a peer's handshake.
fn judged(message: &[u8]) -> bool {
    if tunnel::addressee(message) != Some(Addressee::Unknown) {
        return false;
    }
    let (now, identity, mut answer) = (Instant::now(), identity(&OURS), [0; MAX_CONTROL]);
    match Gate::new(now, identity.clone()).admit(now, IpAddr::from([192, 0, 2, 1]), message, &mut answer) {
        Admission::Admitted => Initiation::read(&identity, message).is_some(),
        Admission::Cookie(length) => {
            assert!(length <= message.len());
            false
        }
        Admission::Refused => false,
    }
}
