//! What a TUN device hands over at once: one packet, or a super-segment that stands for many (TCP and UDP GSO).
//!
//! A super-segment is one set of headers over the payload of `count` packets of the wire; the `virtio_net_hdr` before
//! it says how long each is (virtio 1.2, §5.1.6). Any run of its packets can be written as a smaller super-segment:
//! the same payload under corrected headers.

use std::ops::Range;

use super::buffers::Bytes;

/// Length of `virtio_net_hdr` as TUN writes it unless told otherwise.
pub const PREFIX_LEN: usize = 10;
/// No headers are longer: IPv6 with options and TCP with all of its options fit with room to spare.
const MAX_HEAD_LEN: usize = 256;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// Set beside a TCP type: the first packet carries CWR (RFC 3168) and the others must not.
const GSO_ECN: u8 = 0x80;
const TCP_FIN_AND_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// How the packets of a super-segment are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    udp: bool,
    ipv6: bool,
    /// Where the TCP or UDP header begins, counted from the IP header.
    transport: usize,
    /// Length of all headers.
    head: usize,
    /// Payload of each packet but the last, which may have less.
    segment: usize,
    /// Where the checksum is, counted from the IP header.
    checksum: usize,
}

/// A packet or super-segment as it was read from a TUN device, the virtio header first.
#[derive(Debug)]
pub struct Packet {
    bytes: Bytes,
    shape: Option<Shape>,
}

/// Headers of a run; its payload stays where it is.
pub struct Head {
    bytes: [u8; PREFIX_LEN + MAX_HEAD_LEN],
    len: usize,
}

impl Head {
    /// The virtio header, the IP header and the transport header.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Packet {
    /// Take in what one read returned; `None` where it is too short to be a packet.
    pub fn new(bytes: Bytes) -> Option<Self> {
        let shape = (bytes.len() > PREFIX_LEN + 20).then(|| shape(&bytes))?;
        Some(Self { bytes, shape })
    }

    /// How many packets it is on the wire.
    pub fn count(&self) -> usize {
        self.shape.map_or(1, |shape| (self.ip().len() - shape.head).div_ceil(shape.segment))
    }

    /// Length of one of its packets, IP header included.
    pub fn wire_len(&self, index: usize) -> usize {
        let Some(shape) = self.shape else { return self.ip().len() };
        shape.head + self.payload(shape, index..index + 1).len()
    }

    /// What to write for the packets `run`: headers and payload, or the whole as it came.
    pub fn run(&self, run: Range<usize>) -> (Option<Head>, &[u8]) {
        match self.shape {
            Some(shape) if run.len() < self.count() => {
                let payload = self.payload(shape, run.clone());
                (Some(self.head(shape, &run, payload.len())), &self.ip()[payload])
            }
            _ => (None, &self.bytes),
        }
    }

    fn ip(&self) -> &[u8] {
        &self.bytes[PREFIX_LEN..]
    }

    /// Where the payload of `run` is, counted from the IP header.
    fn payload(&self, shape: Shape, run: Range<usize>) -> Range<usize> {
        let end = (shape.head + run.end * shape.segment).min(self.ip().len());
        shape.head + run.start * shape.segment..end
    }

    fn head(&self, shape: Shape, run: &Range<usize>, payload_len: usize) -> Head {
        let mut head = Head { bytes: [0; PREFIX_LEN + MAX_HEAD_LEN], len: PREFIX_LEN + shape.head };
        head.bytes[..head.len].copy_from_slice(&self.bytes[..head.len]);
        let (prefix, ip) = head.bytes[..head.len].split_at_mut(PREFIX_LEN);
        write_prefix(prefix, run);
        let transport_len = shape.head - shape.transport + payload_len;
        if shape.ipv6 {
            put16(ip, 4, shape.transport - 40 + transport_len);
        } else {
            write_ipv4(ip, shape.transport + transport_len, run.start);
        }
        let old_len = self.ip().len() - shape.transport;
        if shape.udp {
            put16(ip, shape.transport + 4, transport_len);
        } else {
            write_tcp(&mut ip[shape.transport..], run, shape.segment, run.end == self.count());
        }
        // The field holds the sum over the pseudo header, of which only the length changes (RFC 1624).
        let sum = get16(ip, shape.checksum) + (!old_len & 0xffff) + transport_len;
        put16(ip, shape.checksum, fold(sum));
        head
    }
}

fn write_prefix(prefix: &mut [u8], run: &Range<usize>) {
    if run.start > 0 {
        prefix[1] &= !GSO_ECN;
    }
    if run.len() == 1 {
        prefix[1] = GSO_NONE;
        prefix[4..6].fill(0);
    }
}

fn write_ipv4(ip: &mut [u8], total_len: usize, first: usize) {
    let header_len = usize::from(ip[0] & 0xf) * 4;
    put16(ip, 2, total_len);
    let identification = get16(ip, 4) + first;
    put16(ip, 4, identification);
    put16(ip, 10, 0);
    let sum = (0..header_len).step_by(2).map(|at| get16(ip, at)).sum();
    put16(ip, 10, !fold(sum));
}

fn write_tcp(tcp: &mut [u8], run: &Range<usize>, segment: usize, last: bool) {
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    // A super-segment has at most 64 KiB.
    let sequence = sequence.wrapping_add((run.start * segment) as u32);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        tcp[13] &= !TCP_FIN_AND_PSH;
    }
    if run.start > 0 {
        tcp[13] &= !TCP_CWR;
    }
}

/// Read the shape; `None` is one packet, or something whose packets we cannot tell apart.
fn shape(bytes: &[u8]) -> Option<Shape> {
    let (prefix, ip) = bytes.split_at(PREFIX_LEN);
    let native = |at: usize| usize::from(u16::from_ne_bytes([prefix[at], prefix[at + 1]]));
    let udp = match prefix[1] & !GSO_ECN {
        GSO_TCP4 | GSO_TCP6 => false,
        GSO_UDP => true,
        _ => return None,
    };
    let (segment, transport, checksum) = (native(4), native(6), native(6) + native(8));
    if prefix[0] & NEEDS_CHECKSUM == 0 || segment == 0 || ip.len() < transport + 20 {
        return None;
    }
    let head = transport + if udp { 8 } else { usize::from(ip[transport + 12] >> 4) * 4 };
    let fits = transport >= 20 && checksum + 2 <= head && head <= MAX_HEAD_LEN && head < ip.len();
    let ipv6 = ip[0] >> 4 == 6;
    (fits && (!ipv6 || transport >= 40)).then_some(Shape { udp, ipv6, transport, head, segment, checksum })
}

fn get16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Write the low 16 bits.
fn put16(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&((value & 0xffff) as u16).to_be_bytes());
}

/// Fold a sum to 16 bits, carries added (RFC 1071).
fn fold(mut sum: usize) -> usize {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
