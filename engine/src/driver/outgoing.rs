//! Packets on their way out: those to one peer are sealed together and leave together.

use std::ops::Range;
use std::time::Instant;

use super::node::{Node, Wire};
use super::peers::PeerId;
use super::udp::{MAX_SEGMENTS, ONE_SEND};
use crate::aead::TAG;
use crate::path::Source;
use crate::span::Span;
use crate::tunnel::{self, DataHeader, Sending, HEADER, MAX_CONTROL, OVERHEAD};
use crate::wire::keys::Key;

/// Messages to one peer, one after the other: each a packet between room for its header and for its tag.
#[derive(Default)]
pub struct Outgoing {
    peer: PeerId,
    bytes: Vec<u8>,
    used: usize,
    /// The packets, which are what is sealed.
    packets: Vec<Span>,
}

impl Outgoing {
    pub fn new() -> Self {
        Self { bytes: vec![0; ONE_SEND], ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether a packet to a peer can go with the others.
    fn fits(&self, peer: PeerId, length: usize) -> bool {
        let full = self.packets.len() >= MAX_SEGMENTS || self.used + length + OVERHEAD > ONE_SEND;
        self.is_empty() || (self.peer == peer && !full)
    }

    /// Add a packet, which must fit. The first may be larger than all others together.
    fn push(&mut self, peer: PeerId, packet: &[u8]) {
        self.peer = peer;
        let start = self.used + HEADER;
        let end = start + packet.len();
        self.used = end + TAG;
        if self.bytes.len() < self.used {
            self.bytes.resize(self.used, 0);
        }
        self.bytes[start..end].copy_from_slice(packet);
        self.packets.push(Span { start, end });
    }

    /// Make messages of the packets.
    fn seal(&mut self, sending: &Sending<'_>) {
        for (counter, packet) in (sending.first..).zip(&self.packets) {
            let header = DataHeader { receiver: sending.receiver, counter };
            header.write(&mut self.bytes[packet.start - HEADER..packet.start]);
        }
        sending.key.seal_many(sending.first, &mut self.bytes, &self.packets);
    }

    /// The messages.
    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|packet| &self.bytes[packet.start - HEADER..packet.end + TAG])
    }

    /// Runs of messages of one length, but for the last of each, which may be shorter: what one UDP send can carry.
    fn runs(&self) -> Vec<(Range<usize>, usize)> {
        let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
        let mut open = false;
        for packet in &self.packets {
            let message = packet.start - HEADER..packet.end + TAG;
            match runs.last_mut().filter(|(_, stride)| open && message.len() <= *stride) {
                Some((run, stride)) => {
                    open = message.len() == *stride;
                    run.end = message.end;
                }
                None => {
                    open = true;
                    runs.push((message.clone(), message.len()));
                }
            }
        }
        runs
    }

    fn clear(&mut self) {
        self.used = 0;
        self.packets.clear();
    }
}

impl Wire {
    /// Let sealed messages leave by one way.
    fn send_all(&mut self, now: Instant, way: Source, key: &Key, outgoing: &Outgoing) {
        match way {
            Source::Udp(to) => {
                let Some(udp) = self.udp(&to) else { return };
                for (run, stride) in outgoing.runs() {
                    udp.send(to, &outgoing.bytes[run], stride);
                }
            }
            Source::Relay { region } => {
                for message in outgoing.messages() {
                    self.relays.send(now, region, key, message);
                }
            }
        }
    }
}

impl Node {
    /// Send an inner packet to its peer: at the latest with the next `flush`. An empty packet is a keepalive.
    pub fn send_inner(&mut self, now: Instant, id: PeerId, packet: &[u8]) {
        let Some(peer) = self.peers.get(id) else { return };
        let mtu = peer.path.inner_mtu();
        if let Some(capture) = self.capture.as_mut().filter(|_| !packet.is_empty()) {
            capture.packet(packet);
        }
        if packet.len() > mtu {
            self.send_fragments(now, id, packet, mtu);
        } else if packet.is_empty() {
            self.depart(now);
            self.send_one(now, id, packet);
        } else {
            if !self.outgoing.fits(id, packet.len()) {
                self.depart(now);
            }
            self.outgoing.push(id, packet);
        }
    }

    /// Let everything leave that waits to be sealed or sent.
    pub fn flush(&mut self, now: Instant) {
        self.depart(now);
        self.wire.flush(now);
    }

    /// Seal what is collected and let it leave.
    fn depart(&mut self, now: Instant) {
        if self.outgoing.is_empty() {
            return;
        }
        let (id, count) = (self.outgoing.peer, self.outgoing.packets.len());
        let mut outgoing = std::mem::take(&mut self.outgoing);
        if let Some(peer) = self.peers.get_mut(id) {
            if let Some(sending) = peer.session.sending(now, count as u64) {
                outgoing.seal(&sending);
                let route = peer.path.handle_send(now);
                for way in route.ways() {
                    self.wire.send_all(now, way, &peer.key, &outgoing);
                }
                peer.sent(now, count, outgoing.used);
                self.totals.tx_packets += count as u64;
                self.totals.tx_bytes += outgoing.used as u64;
                self.peers.touch(id);
            } else {
                for packet in &outgoing.packets {
                    self.send_one(now, id, &outgoing.bytes[packet.range()]);
                }
            }
        }
        outgoing.clear();
        self.outgoing = outgoing;
    }

    /// Send a packet that has no keys to be sealed with yet, or is a keepalive.
    fn send_one(&mut self, now: Instant, id: PeerId, packet: &[u8]) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let mut message = vec![0; (packet.len() + OVERHEAD).max(MAX_CONTROL)];
        let route = peer.path.handle_send(now);
        if let Some(length) = peer.session.seal(now, packet, &mut message) {
            for way in route.ways() {
                self.wire.send(now, way, &peer.key, &message[..length]);
            }
            peer.sent(now, 1, length);
            self.totals.tx_packets += 1;
            self.totals.tx_bytes += length as u64;
            if tunnel::initiates(&message[..length]) {
                peer.initiated(now);
            }
        }
        self.peers.touch(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(lengths: &[usize]) -> Outgoing {
        let mut outgoing = Outgoing::new();
        for (number, length) in lengths.iter().enumerate() {
            assert!(outgoing.fits(7, *length));
            outgoing.push(7, &vec![number as u8; *length]);
        }
        outgoing
    }

    /// How many messages are in each run.
    fn runs(lengths: &[usize]) -> Vec<usize> {
        collected(lengths).runs().into_iter().map(|(run, stride)| run.len().div_ceil(stride)).collect()
    }

    #[test]
    fn a_run_is_of_one_length_and_ends_with_a_shorter_message() {
        let cases: [(&[usize], &[usize]); 7] = [
            (&[], &[]),
            (&[1280], &[1]),
            (&[1280, 1280, 1280], &[3]),
            (&[1280, 1280, 300], &[3]),
            (&[1280, 300, 300], &[2, 1]),
            (&[300, 1280, 1280], &[1, 2]),
            (&[72, 72, 1280, 72, 72], &[2, 2, 1]),
        ];
        for (lengths, expected) in cases {
            assert_eq!(runs(lengths), expected, "{lengths:?}");
        }
    }

    #[test]
    fn runs_cover_every_message_once() {
        let outgoing = collected(&[40, 1280, 1280, 7, 1280, 1281, 40, 40, 41]);
        let whole: Vec<u8> = outgoing.messages().flatten().copied().collect();
        let runs = outgoing.runs();
        let again: Vec<u8> = runs.iter().flat_map(|(run, _)| &outgoing.bytes[run.clone()]).copied().collect();
        assert_eq!(again, whole);
    }

    #[test]
    fn what_would_not_fit_in_one_send_waits_for_the_next() {
        let mut outgoing = collected(&[1280; 49]);
        assert!(!outgoing.fits(7, 1280));
        assert!(outgoing.fits(7, 600));
        assert!(!outgoing.fits(8, 600), "another peer");
        outgoing.clear();
        assert!(outgoing.fits(8, 1280));
        let outgoing = collected(&[40; MAX_SEGMENTS]);
        assert!(!outgoing.fits(7, 40));
    }

    #[test]
    fn a_packet_that_is_larger_than_one_send_goes_alone() {
        let mut outgoing = Outgoing::new();
        assert!(outgoing.fits(7, ONE_SEND * 2));
        outgoing.push(7, &vec![1; ONE_SEND * 2]);
        assert!(!outgoing.fits(7, 1));
        assert_eq!(outgoing.messages().map(<[u8]>::len).collect::<Vec<_>>(), [ONE_SEND * 2 + OVERHEAD]);
    }
}
