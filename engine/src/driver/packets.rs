//! The way of a packet: from a datagram to its connection, and back.

use std::net::SocketAddr;
use std::time::Instant;

use super::node::Node;
use super::outbox::Event;
use super::peers::PeerId;
use super::random;
use crate::netstack::device::Span;
use crate::netstack::fragment;
use crate::netstack::packet::{self, Inner};
use crate::path::Source;
use crate::tunnel::tsmp::Message as Tsmp;
use crate::tunnel::{self, Addressee, Admission, Initiation, Opened, MAX_CONTROL, OVERHEAD};
use crate::wire::{disco, keys, stun};

/// Room for what one receive call decrypts to.
const SLAB: usize = 512 << 10;

/// Decrypted packets of one receive call.
pub struct Slab {
    pub bytes: Vec<u8>,
    pub used: usize,
}

impl Node {
    /// A datagram came in by UDP.
    pub fn on_udp(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if stun::is_stun(datagram) {
            self.on_stun(now, from, datagram);
        } else if disco::is_disco(datagram) {
            if !self.config.block_direct {
                self.on_disco(now, Source::Udp(from), None, datagram);
            }
        } else if !self.config.block_direct {
            self.on_wireguard(now, Source::Udp(from), None, datagram);
        }
    }

    /// A packet from `key` came by the relay of `region`.
    pub fn on_relayed(&mut self, now: Instant, region: u16, key: &keys::Key, packet: &[u8]) {
        let source = Source::Relay { region };
        if disco::is_disco(packet) {
            self.on_disco(now, source, Some(key), packet);
        } else {
            let peer = self.peers.by_key(key);
            if peer.is_some() {
                self.on_wireguard(now, source, peer, packet);
            }
        }
    }

    fn on_wireguard(&mut self, now: Instant, source: Source, sender: Option<PeerId>, datagram: &[u8]) {
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
        self.slab.reserve(datagram.len());
        let Some(peer) = self.peers.get_mut(id) else { return };
        let start = self.slab.used;
        let out = &mut self.slab.bytes[start..];
        let opened = match initiation {
            Some(initiation) => peer.session.answer(now, initiation, out),
            None => peer.session.open(now, datagram, out),
        };
        if opened == Opened::Rejected {
            self.totals.dropped_packets += 1;
            return;
        }
        let was_silent = peer.heard(now, source, datagram.len());
        let shaken = peer.handshake_step(datagram[0], &opened);
        let (key, waits) = (peer.key, peer.session.waits(now));
        self.totals.rx_packets += 1;
        self.totals.rx_bytes += datagram.len() as u64;
        self.peers.touch(id);
        if shaken {
            self.outbox.push(Event::Handshake { key });
        }
        if was_silent || shaken {
            self.way_restored(now, id);
        }
        if let Opened::Reply(length) = opened {
            let mut reply = [0; MAX_CONTROL];
            reply[..length].copy_from_slice(&self.slab.bytes[start..start + length]);
            self.send_sealed(now, id, Some(source), &reply[..length]);
        }
        if waits {
            self.send_waiting(now, id, source);
        }
        if let Opened::Packet(length) = opened {
            self.on_inner(now, id, Span { start, end: start + length });
        }
    }

    /// Read who begins a handshake from an address that says nothing about it.
    fn stranger(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Initiation> {
        let mut cookie = [0; MAX_CONTROL];
        match self.gate.admit(now, from.ip(), datagram, &mut cookie) {
            Admission::Admitted => Initiation::read(&self.identity, datagram),
            Admission::Cookie(length) => {
                let udp = self.wire.udp(&from)?;
                udp.push(from, length, |room| {
                    room.get_mut(..length)?.copy_from_slice(&cookie[..length]);
                    Some(length)
                });
                None
            }
            Admission::Refused => None,
        }
    }

    /// A decrypted packet stands in the slab.
    fn on_inner(&mut self, now: Instant, id: PeerId, span: Span) {
        let bytes = &self.slab.bytes[span.start..span.end];
        if let Some(capture) = &mut self.capture {
            capture.packet(bytes);
        }
        let Some(inner) = Inner::parse(bytes) else { return };
        let allowed = self.peers.owner(&inner.source) == Some(id) && self.config.addresses.contains(&inner.destination);
        if !allowed {
            self.totals.dropped_packets += 1;
            return;
        }
        match inner.protocol {
            packet::TCP => {
                let (Some(ends), opens) = (inner.ends(), inner.opens()) else { return };
                self.on_tcp(now, id, ends, opens, span);
            }
            packet::UDP => {
                if let (Some(ends), Some(_)) = (inner.ends(), inner.datagram()) {
                    self.on_inner_udp(now, id, ends, span);
                }
            }
            packet::FRAGMENT => {
                let Some(whole) = self.reassembly.push(now, &inner) else { return };
                // A whole that is a fragment again is nothing that an honest peer sends.
                if whole.get(6) != Some(&packet::FRAGMENT) {
                    let span = self.slab.append(&whole);
                    self.on_inner(now, id, span);
                }
            }
            packet::ICMPV6 => {
                if let Some(reply) = inner.echo_reply() {
                    self.send_inner(now, id, &reply);
                }
            }
            packet::TSMP => {
                let (source, destination) = (inner.source, inner.destination);
                match Tsmp::parse(inner.payload) {
                    Some(Tsmp::Ping(data)) => {
                        self.send_inner(now, id, &Tsmp::Pong(data).packet(destination, source));
                    }
                    Some(Tsmp::Pong(data)) => self.on_tunnel_pong(now, u64::from_be_bytes(data)),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Seal one inner packet and send it to its peer.
    pub fn send_inner(&mut self, now: Instant, id: PeerId, packet: &[u8]) {
        if let Some(capture) = self.capture.as_mut().filter(|_| !packet.is_empty()) {
            capture.packet(packet);
        }
        let Some(peer) = self.peers.get_mut(id) else { return };
        let mtu = peer.path.inner_mtu();
        if packet.len() > mtu {
            self.send_fragments(now, id, packet, mtu);
            return;
        }
        let room = (packet.len() + OVERHEAD).max(MAX_CONTROL);
        let route = peer.path.handle_send(now);
        let (mut sealed, mut initiates) = (0, false);
        match (route.direct, route.relay) {
            (Some(to), None) => {
                let udp = if to.is_ipv4() { &mut self.wire.udp4 } else { &mut self.wire.udp6 };
                if let Some(udp) = udp {
                    udp.push(to, room, |out| {
                        let length = peer.session.seal(now, packet, out)?;
                        (sealed, initiates) = (length, tunnel::initiates(&out[..length]));
                        Some(length)
                    });
                }
            }
            (direct, relay) => {
                if self.sealed.len() < room {
                    self.sealed.resize(room, 0);
                }
                let Some(length) = peer.session.seal(now, packet, &mut self.sealed) else { return };
                let bytes = &self.sealed[..length];
                (sealed, initiates) = (length, tunnel::initiates(bytes));
                let ways = direct.map(Source::Udp).into_iter().chain(relay.map(|region| Source::Relay { region }));
                for way in ways {
                    self.wire.send(now, way, &peer.key, bytes);
                }
            }
        }
        if sealed > 0 {
            peer.sent(now, sealed);
            self.totals.tx_packets += 1;
            self.totals.tx_bytes += sealed as u64;
        }
        if initiates {
            peer.initiated(now);
        }
        self.peers.touch(id);
    }

    /// Send a packet that is larger than the path carries in fragments; the peer puts them together.
    fn send_fragments(&mut self, now: Instant, id: PeerId, packet: &[u8], mtu: usize) {
        let identification = u32::from_le_bytes(random::bytes());
        for piece in fragment::split(packet, mtu, identification) {
            self.send_inner(now, id, &piece);
        }
    }

    /// The largest packet inside the tunnel that the path to a peer carries.
    pub fn inner_mtu(&self, id: PeerId) -> usize {
        let path = self.peers.get(id).map_or(self.config.mtu, |peer| peer.path.inner_mtu());
        path.min(self.config.mtu)
    }

    /// Send a WireGuard message by the peer's route, or back to where its cause came from.
    pub fn send_sealed(&mut self, now: Instant, id: PeerId, cause: Option<Source>, message: &[u8]) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let route = peer.path.route(now);
        let ways = route.direct.map(Source::Udp).into_iter().chain(route.relay.map(|region| Source::Relay { region }));
        let ways: Vec<Source> = ways.collect();
        let back = if ways.is_empty() { cause } else { None };
        for way in ways.into_iter().chain(back) {
            self.wire.send(now, way, &peer.key, message);
        }
        peer.sent(now, message.len());
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += message.len() as u64;
    }

    /// After a handshake: send the packets that waited for it.
    fn send_waiting(&mut self, now: Instant, id: PeerId, cause: Source) {
        let mut buffer = vec![0; self.config.mtu + OVERHEAD + MAX_CONTROL];
        while let Some(length) = self.peers.get_mut(id).and_then(|peer| peer.session.next_waiting(now, &mut buffer)) {
            self.send_sealed(now, id, Some(cause), &buffer[..length]);
        }
    }
}

impl Slab {
    fn append(&mut self, packet: &[u8]) -> Span {
        self.reserve(packet.len());
        let span = Span { start: self.used, end: self.used + packet.len() };
        self.bytes[span.start..span.end].copy_from_slice(packet);
        self.used = span.end;
        span
    }

    pub fn new() -> Self {
        Self { bytes: vec![0; SLAB], used: 0 }
    }

    fn reserve(&mut self, datagram: usize) {
        let needed = self.used + datagram.max(MAX_CONTROL);
        if self.bytes.len() < needed {
            self.bytes.resize(needed + SLAB, 0);
        }
    }
}
