//! The way of a packet: from a datagram to its connection, and back.

use std::time::Instant;

use super::node::Node;
use super::peers::PeerId;
use super::random;
use crate::netstack::fragment;
use crate::netstack::packet::{self, Inner};
use crate::path::Source;
use crate::span::Span;
use crate::tunnel::tsmp::Message as Tsmp;
use crate::tunnel::{MAX_CONTROL, OVERHEAD};

impl Node {
    /// A decrypted packet stands in the slab.
    pub fn on_inner(&mut self, now: Instant, id: PeerId, span: Span) {
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

    /// Send a packet that is larger than the path carries in fragments; the peer puts them together.
    pub fn send_fragments(&mut self, now: Instant, id: PeerId, packet: &[u8], mtu: usize) {
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
        let ways: Vec<Source> = route.ways().collect();
        let back = if ways.is_empty() { cause } else { None };
        for way in ways.into_iter().chain(back) {
            self.wire.send(now, way, &peer.key, message);
        }
        peer.sent(now, 1, message.len());
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += message.len() as u64;
    }

    /// After a handshake: send the packets that waited for it.
    pub fn send_waiting(&mut self, now: Instant, id: PeerId, cause: Source) {
        let mut buffer = vec![0; self.config.mtu + OVERHEAD + MAX_CONTROL];
        while let Some(length) = self.peers.get_mut(id).and_then(|peer| peer.session.next_waiting(now, &mut buffer)) {
            self.send_sealed(now, id, Some(cause), &buffer[..length]);
        }
    }
}
