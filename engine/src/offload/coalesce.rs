//! From packets back to super-segments, many connections at once.

use super::checksum::{fold, pseudo};
use super::header::Header;
use super::segment::{Segment, ACK, CHECKSUM_AT, FIN, PSH};
use crate::netstack::packet::{IPV6_HEADER, TCP};
use crate::span::Span;

/// An IPv6 packet without jumbograms carries at most this behind its header.
const MAX_PAYLOAD: usize = 65_535;
/// How many of the latest trains are looked at for the one that a packet continues; a connection that is not among
/// them begins a new one, which costs a call more and nothing else.
const LOOKED_AT: usize = 16;
/// Pieces that one call writes, with the headers before them.
pub const MAX_PIECES: usize = 128;

/// Consecutive packets of one connection, on their way to become one.
#[derive(Debug, Default)]
struct Train {
    /// The first packet, then the data of the others.
    pieces: Vec<Span>,
    headers: usize,
    /// The number that continues it.
    next: u32,
    /// Bytes of data in each packet but the last.
    size: usize,
    payload: usize,
    /// Nothing may follow.
    closed: bool,
}

/// Packets of one batch, in a buffer that stays where it is until they are taken.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// Used ones first; the others keep their memory for later.
    trains: Vec<Train>,
    used: usize,
}

impl Coalescer {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Add a whole TCP packet that stands in `slab`.
    pub fn push(&mut self, slab: &mut [u8], span: Span) {
        let Some(segment) = Segment::parse(&slab[span.start..span.end]) else { return };
        let latest = self.used.saturating_sub(LOOKED_AT);
        let ours = self.trains[latest..self.used].iter_mut().rev().find(|train| train.belongs(slab, span));
        if ours.is_some_and(|train| train.continued(slab, span, &segment)) {
            return;
        }
        if self.used == self.trains.len() {
            self.trains.push(Train::default());
        }
        self.trains[self.used].begin(span, &segment);
        self.used += 1;
    }

    /// Hand every train to `write`, in the order in which they began: its header, and its pieces in the slab.
    pub fn drain(&mut self, slab: &mut [u8], mut write: impl FnMut(&Header, &[u8], &[Span])) {
        for train in &mut self.trains[..self.used] {
            let header = train.finish(slab);
            write(&header, slab, &train.pieces);
            train.pieces.clear();
        }
        self.used = 0;
    }
}

impl Train {
    fn begin(&mut self, span: Span, segment: &Segment) {
        self.pieces.clear();
        self.pieces.push(span);
        self.headers = segment.headers;
        self.next = segment.sequence.wrapping_add(segment.data as u32);
        self.size = segment.data;
        self.payload = span.end - span.start - IPV6_HEADER;
        self.closed = segment.data == 0 || segment.flags & !PSH != ACK || segment.flags & PSH != 0;
    }

    /// Whether a packet is of the same connection.
    fn belongs(&self, slab: &[u8], span: Span) -> bool {
        let (first, packet) = (&slab[self.pieces[0].start..], &slab[span.start..]);
        // Ports first: they differ most often. Then both addresses.
        first[IPV6_HEADER..IPV6_HEADER + 4] == packet[IPV6_HEADER..IPV6_HEADER + 4] && first[8..40] == packet[8..40]
    }

    /// Append a packet if the train may go on with it.
    fn continued(&mut self, slab: &mut [u8], span: Span, segment: &Segment) -> bool {
        const FLAGS: usize = IPV6_HEADER + 13;
        let start = self.pieces[0].start;
        let (first, packet) = (&slab[start..start + self.headers], &slab[span.start..span.end]);
        let fits = !self.closed
            && segment.data > 0
            && segment.data <= self.size
            && segment.headers == self.headers
            && segment.sequence == self.next
            && self.payload + segment.data <= MAX_PAYLOAD
            && self.pieces.len() < MAX_PIECES;
        // Everything else must be equal but the length, the number, the sum, and the flags of the last packet.
        let equal = |range: std::ops::Range<usize>| first[range.clone()] == packet[range];
        let alike = fits
            && equal(0..4)
            && equal(6..8)
            && equal(IPV6_HEADER + 8..FLAGS)
            && (first[FLAGS] ^ packet[FLAGS]) & !(FIN | PSH) == 0
            && equal(IPV6_HEADER + 14..IPV6_HEADER + CHECKSUM_AT)
            && equal(IPV6_HEADER + CHECKSUM_AT + 2..self.headers);
        if !alike {
            return false;
        }
        let ending = packet[FLAGS] & (FIN | PSH);
        self.closed = segment.data < self.size || ending != 0;
        slab[start + FLAGS] |= ending;
        self.next = self.next.wrapping_add(segment.data as u32);
        self.payload += segment.data;
        self.pieces.push(Span { start: span.start + self.headers, end: span.end });
        true
    }

    /// Make the first packet's headers those of the whole.
    fn finish(&self, slab: &mut [u8]) -> Header {
        let packet = &mut slab[self.pieces[0].start..];
        packet[4..6].copy_from_slice(&(self.payload as u16).to_be_bytes());
        // The kernel takes this for "will be completed by hardware" and looks no further: WireGuard has authenticated
        // every byte already.
        let sum = fold(pseudo(packet, self.payload, TCP));
        let at = IPV6_HEADER + CHECKSUM_AT;
        packet[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        Header {
            checksum: Some((IPV6_HEADER, CHECKSUM_AT)),
            segment: (self.pieces.len() > 1).then_some(self.size),
            ecn: false,
            headers: self.headers,
        }
    }
}
