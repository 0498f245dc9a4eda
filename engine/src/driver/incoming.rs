//! Datagrams on their way in: what they are, whose they are, and opening them, many at once.

use std::net::SocketAddr;
use std::time::Instant;

use super::node::Node;
use super::outbox::Event;
use super::peers::PeerId;
use crate::aead::{Sealed, LANES};
use crate::path::Source;
use crate::span::Span;
use crate::tunnel::{self, Addressee, Admission, DataHeader, Initiation, Opened, HEADER, MAX_CONTROL};
use crate::wire::{disco, keys, stun};

/// Room for what one receive call decrypts to.
const SLAB: usize = 512 << 10;

/// Decrypted packets of one receive call.
pub struct Slab {
    pub bytes: Vec<u8>,
    pub used: usize,
}

/// Data messages that came by one way for one session, one after the other.
pub struct Run<'a> {
    source: Source,
    /// Who sent them, where the relay says so.
    sender: Option<PeerId>,
    index: u32,
    sealed: [Sealed<'a>; LANES],
    count: usize,
}

impl<'a> Run<'a> {
    fn new(source: Source, sender: Option<PeerId>) -> Self {
        Self { source, sender, index: 0, sealed: [Sealed::default(); LANES], count: 0 }
    }

    /// Whether a message can be added.
    fn fits(&self, header: &DataHeader) -> bool {
        self.count == 0 || (self.count < LANES && self.index == header.receiver)
    }

    fn push(&mut self, header: &DataHeader, datagram: &'a [u8]) {
        self.index = header.receiver;
        self.sealed[self.count] = Sealed { counter: header.counter, bytes: &datagram[HEADER..] };
        self.count += 1;
    }
}

impl Node {
    /// Datagrams came in by UDP from one address.
    pub fn on_udp<'a>(&mut self, now: Instant, from: SocketAddr, datagrams: impl Iterator<Item = &'a [u8]>) {
        let mut run = Run::new(Source::Udp(from), None);
        for datagram in datagrams {
            match DataHeader::parse(datagram) {
                Some(header) => self.collect(now, &mut run, &header, datagram),
                None => self.on_control(now, from, datagram),
            }
        }
        self.on_data(now, &mut run);
    }

    /// Something else than data came in by UDP.
    fn on_control(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if stun::is_stun(datagram) {
            self.on_stun(now, from, datagram);
        } else if self.config.block_direct {
            // nobody was told that we can be reached by UDP
        } else if disco::is_disco(datagram) {
            self.on_disco(now, Source::Udp(from), None, datagram);
        } else {
            self.on_handshake(now, Source::Udp(from), None, datagram);
        }
    }

    /// Packets came by the relay of `region`, each with the key of its sender.
    pub fn on_relayed<'a>(
        &mut self,
        now: Instant,
        region: u16,
        packets: impl Iterator<Item = (&'a keys::Key, &'a [u8])>,
    ) {
        let source = Source::Relay { region };
        let mut run = Run::new(source, None);
        for (key, packet) in packets {
            if disco::is_disco(packet) {
                self.on_disco(now, source, Some(key), packet);
                continue;
            }
            let Some(sender) = self.peers.by_key(key) else { continue };
            let Some(header) = DataHeader::parse(packet) else {
                self.on_handshake(now, source, Some(sender), packet);
                continue;
            };
            if run.sender != Some(sender) {
                self.on_data(now, &mut run);
                run.sender = Some(sender);
            }
            self.collect(now, &mut run, &header, packet);
        }
        self.on_data(now, &mut run);
    }

    fn collect<'a>(&mut self, now: Instant, run: &mut Run<'a>, header: &DataHeader, datagram: &'a [u8]) {
        if !run.fits(header) {
            self.on_data(now, run);
        }
        run.push(header, datagram);
    }

    /// Open what was collected.
    fn on_data(&mut self, now: Instant, run: &mut Run<'_>) {
        let count = std::mem::take(&mut run.count);
        let by_udp = matches!(run.source, Source::Udp(_));
        if count == 0 || (by_udp && self.config.block_direct) {
            return;
        }
        let sealed = &run.sealed[..count];
        // What came by relay names its sender: nobody else may use that sender's session.
        let id = self.peers.by_index(run.index >> 8).filter(|id| run.sender.is_none_or(|sender| sender == *id));
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(id)?))) else { return };
        let Some(key) = peer.session.receiving(now, run.index) else {
            self.totals.dropped_packets += count as u64;
            return;
        };
        let room = sealed.iter().map(|sealed| sealed.bytes.len()).sum();
        let start = self.slab.reserve(room);
        let mut texts = key.open_many(sealed, &mut self.slab.bytes[start..start + room]);
        let (mut good, mut bytes) = (0, 0);
        for (sealed, text) in sealed.iter().zip(&mut texts) {
            text.take_if(|text| !peer.session.received(now, run.index, sealed.counter, text.len() > 0));
            if text.is_some() {
                good += 1;
                bytes += sealed.bytes.len() + HEADER;
            }
        }
        self.totals.dropped_packets += (count - good) as u64;
        if good == 0 {
            return;
        }
        let was_silent = peer.heard(now, run.source, good, bytes);
        let shaken = peer.confirmed();
        self.totals.rx_packets += good as u64;
        self.totals.rx_bytes += bytes as u64;
        self.came_in(now, id, was_silent, shaken);
        if shaken {
            self.send_waiting(now, id, run.source);
        }
        self.slab.used = start + room;
        for text in texts.into_iter().flatten().filter(|text| text.len() > 0) {
            let text = Span { start: start + text.start, end: start + text.end };
            // It may have been filled up with zeros.
            if let Some(length) = tunnel::inner_length(&self.slab.bytes[text.range()]) {
                self.on_inner(now, id, Span { end: text.start + length, ..text });
            }
        }
    }

    /// A message came in that is no data: of a handshake, or nothing that we know.
    fn on_handshake(&mut self, now: Instant, source: Source, sender: Option<PeerId>, datagram: &[u8]) {
        let mut initiation = None;
        let addressed = match (tunnel::addressee(datagram), source) {
            (Some(Addressee::Session(index)), _) => self.peers.by_index(index),
            (Some(Addressee::Unknown), Source::Relay { .. }) => sender,
            (Some(Addressee::Unknown), Source::Udp(from)) => {
                initiation = self.stranger(now, from, datagram);
                initiation.as_ref().and_then(|initiation| self.peers.by_key(initiation.key()))
            }
            (None, _) => None,
        };
        // What came by relay names its sender: nobody else may use that sender's session.
        let Some(id) = addressed.filter(|id| sender.is_none_or(|sender| sender == *id)) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        let mut reply = [0; MAX_CONTROL];
        let opened = match initiation {
            Some(initiation) => peer.session.answer(now, initiation, &mut reply),
            None => peer.session.open(now, datagram, &mut reply),
        };
        if opened == Opened::Rejected {
            self.totals.dropped_packets += 1;
            return;
        }
        let was_silent = peer.heard(now, source, 1, datagram.len());
        let shaken = peer.handshake_step(datagram[0], &opened);
        self.totals.rx_packets += 1;
        self.totals.rx_bytes += datagram.len() as u64;
        self.came_in(now, id, was_silent, shaken);
        if let Opened::Reply(length) = opened {
            self.send_sealed(now, id, Some(source), &reply[..length]);
        }
        self.send_waiting(now, id, source);
    }

    /// Read who begins a handshake from an address that says nothing about it.
    fn stranger(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Initiation> {
        let mut cookie = [0; MAX_CONTROL];
        match self.gate.admit(now, from.ip(), datagram, &mut cookie) {
            Admission::Admitted => Initiation::read(&self.identity, datagram),
            Admission::Cookie(length) => {
                self.wire.udp(&from)?.send(from, &cookie[..length], length);
                None
            }
            Admission::Refused => None,
        }
    }

    /// Something valid came from a peer.
    fn came_in(&mut self, now: Instant, id: PeerId, was_silent: bool, shaken: bool) {
        self.peers.touch(id);
        if let Some(peer) = self.peers.get(id).filter(|_| shaken) {
            self.outbox.push(Event::Handshake { key: peer.key });
        }
        if was_silent || shaken {
            self.way_restored(now, id);
        }
    }
}

impl Slab {
    pub fn new() -> Self {
        Self { bytes: vec![0; SLAB], used: 0 }
    }

    /// See to it that there are so many bytes behind what is used; returns where they begin.
    fn reserve(&mut self, length: usize) -> usize {
        let needed = self.used + length;
        if self.bytes.len() < needed {
            self.bytes.resize(needed + SLAB, 0);
        }
        self.used
    }

    /// Keep a packet until the end of the batch.
    pub fn append(&mut self, packet: &[u8]) -> Span {
        let start = self.reserve(packet.len());
        self.used = start + packet.len();
        self.bytes[start..self.used].copy_from_slice(packet);
        Span { start, end: self.used }
    }
}
