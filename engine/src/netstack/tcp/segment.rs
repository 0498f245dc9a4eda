//! TCP segments in IPv6 packets (RFC 9293 §3.1), with the options that this stack speaks.

use crate::netstack::device::Batch;
use crate::netstack::packet::{self, Ends, Inner, Sum, IPV6_HEADER, TCP};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

const HEADER: usize = 20;
/// Both headers without options.
pub const HEADERS: usize = IPV6_HEADER + HEADER;
/// What a peer that names no size takes (RFC 9293 §3.7.1, for IPv6).
const DEFAULT_MAX_SEGMENT: u16 = 1220;
/// A larger shift is used as this (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;
/// Selective acknowledgements that fit among the options.
pub const MAX_BLOCKS: usize = 4;
const MAX_OPTIONS: usize = 40;

const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_MAX_SEGMENT: u8 = 2;
const OPTION_SCALE: u8 = 3;
const OPTION_SACK_PERMITTED: u8 = 4;
const OPTION_SACK: u8 = 5;

/// What a segment says in its options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    pub max_segment: Option<u16>,
    pub scale: Option<u8>,
    pub sack_permitted: bool,
    /// What arrived out of order (RFC 2018), or twice (RFC 2883).
    pub blocks: [Option<(u32, u32)>; MAX_BLOCKS],
}

/// A segment that passed the length checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Options,
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Read the segment in a TCP packet; `None` when it is something else or truncated.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let body = Inner::parse(packet).filter(|inner| inner.protocol == TCP)?.payload;
        let header: &[u8; HEADER] = body.first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let offset = usize::from(header[12] >> 4) * 4;
        let options = body.get(HEADER..offset)?;
        Some(Self {
            sequence: word(4),
            acknowledgement: word(8),
            flags: header[13],
            window: u16::from_be_bytes([header[14], header[15]]),
            options: if options.is_empty() { Options::default() } else { Options::parse(options) },
            payload: &body[offset..],
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// How many sequence numbers it takes.
    pub fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }
}

impl Options {
    /// Read options; what cannot be understood ends the reading.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            match bytes {
                [] | [OPTION_END, ..] | [_] => return options,
                [OPTION_NOTHING, rest @ ..] => bytes = rest,
                [kind, length, ..] => {
                    let Some(body) = bytes.get(2..usize::from(*length)) else { return options };
                    options.take(*kind, body);
                    bytes = &bytes[usize::from(*length)..];
                }
            }
        }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (OPTION_MAX_SEGMENT, [high, low]) => self.max_segment = Some(u16::from_be_bytes([*high, *low])),
            (OPTION_SCALE, [shift]) => self.scale = Some((*shift).min(MAX_SCALE)),
            (OPTION_SACK_PERMITTED, []) => self.sack_permitted = true,
            (OPTION_SACK, body) => {
                for (block, bytes) in self.blocks.iter_mut().zip(body.chunks_exact(8)) {
                    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                    *block = Some((word(0), word(4)));
                }
            }
            _ => {}
        }
    }

    /// The segment size that the peer of an opening segment takes.
    pub fn max_segment(&self) -> usize {
        usize::from(self.max_segment.unwrap_or(DEFAULT_MAX_SEGMENT))
    }

    /// Write options, padded to whole words; returns their length.
    fn write(&self, out: &mut [u8; MAX_OPTIONS]) -> usize {
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            out[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        if let Some(size) = self.max_segment {
            let [high, low] = size.to_be_bytes();
            put(&[OPTION_MAX_SEGMENT, 4, high, low]);
        }
        if let Some(shift) = self.scale {
            put(&[OPTION_NOTHING, OPTION_SCALE, 3, shift]);
        }
        if self.sack_permitted {
            put(&[OPTION_NOTHING, OPTION_NOTHING, OPTION_SACK_PERMITTED, 2]);
        }
        let count = self.blocks.iter().flatten().count();
        if count > 0 {
            put(&[OPTION_NOTHING, OPTION_NOTHING, OPTION_SACK, 2 + 8 * count as u8]);
        }
        for (start, end) in self.blocks.iter().flatten() {
            put(&start.to_be_bytes());
            put(&end.to_be_bytes());
        }
        length
    }
}

/// What changes from one segment of a connection to the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
}

/// Writes the segments of one connection.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Both headers with what never changes.
    headers: [u8; HEADERS],
    /// The sum over what never changes.
    sum: Sum,
}

impl Writer {
    pub fn new(ends: Ends) -> Self {
        let mut headers = [0; HEADERS];
        packet::write_ipv6(&mut headers, ends.local.0, ends.remote.0, TCP);
        headers[IPV6_HEADER..IPV6_HEADER + 2].copy_from_slice(&ends.local.1.to_be_bytes());
        headers[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&ends.remote.1.to_be_bytes());
        let mut sum = Sum::default();
        sum.add(&headers[8..IPV6_HEADER + 4]);
        sum.add(&[0, TCP]);
        Self { headers, sum }
    }

    /// Write a segment; its payload may stand in two pieces.
    pub fn write(&self, out: &mut Batch, fields: Fields, options: &Options, payload: [&[u8]; 2]) {
        let mut room = [0; MAX_OPTIONS];
        let options = if *options == Options::default() { 0 } else { options.write(&mut room) };
        let start = HEADERS + options;
        let split = start + payload[0].len();
        let packet = out.append(split + payload[1].len());
        packet[..HEADERS].copy_from_slice(&self.headers);
        packet[HEADERS..start].copy_from_slice(&room[..options]);
        packet[start..split].copy_from_slice(payload[0]);
        packet[split..].copy_from_slice(payload[1]);
        let length = ((packet.len() - IPV6_HEADER) as u16).to_be_bytes();
        packet[4..6].copy_from_slice(&length);
        let header = &mut packet[IPV6_HEADER..];
        header[4..8].copy_from_slice(&fields.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&fields.acknowledgement.to_be_bytes());
        header[12] = (((HEADER + options) / 4) << 4) as u8;
        header[13] = fields.flags;
        header[14..16].copy_from_slice(&fields.window.to_be_bytes());
        let mut sum = self.sum;
        sum.add(&length);
        sum.add(&header[4..]);
        let sum = sum.finish();
        header[16..18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Answer a packet that belongs to no connection with a reset (RFC 9293 §3.10.7.1), unless it is one.
pub fn refuse(packet: &[u8], out: &mut Batch) {
    let (Some(inner), Some(segment)) = (Inner::parse(packet), Segment::parse(packet)) else { return };
    let Some(ends) = inner.ends().filter(|_| !segment.has(RST)) else { return };
    let fields = if segment.has(ACK) {
        Fields { sequence: segment.acknowledgement, flags: RST, ..Fields::default() }
    } else {
        let acknowledgement = segment.sequence.wrapping_add(segment.length());
        Fields { acknowledgement, flags: RST | ACK, ..Fields::default() }
    };
    Writer::new(ends).write(out, fields, &Options::default(), [&[], &[]]);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);
    const ENDS: Ends = Ends { local: (A, 1000), remote: (B, 22) };

    fn blocks(bytes: &[u8]) -> Vec<(u32, u32)> {
        Options::parse(bytes).blocks.iter().flatten().copied().collect()
    }

    #[test]
    fn selective_acknowledgements_are_read_however_they_are_padded() {
        let one = [5, 10, 0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(blocks(&one), [(1, 9)]);
        assert_eq!(blocks(&[&[1, 1][..], &one, &[0]].concat()), [(1, 9)]);
        assert_eq!(blocks(&[&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0][..], &one].concat()), [(1, 9)]);
        for broken in [&[5][..], &[5, 0], &[5, 1], &[5, 40, 1], &[8, 0, 5, 10], &one[..9]] {
            assert_eq!(blocks(broken), []);
        }
    }

    #[test]
    fn what_is_written_reads_back_with_a_right_sum() {
        let all = Options {
            max_segment: Some(1220),
            scale: Some(10),
            sack_permitted: true,
            blocks: [Some((1, 2)), Some((u32::MAX, 5)), None, None],
        };
        let sacks = Options { blocks: [Some((1, 2)); 4], ..Options::default() };
        for options in [Options::default(), all, sacks] {
            for (length, cut) in [(0, 0), (1, 0), (1, 1), (1219, 7), (1220, 600), (777, 777)] {
                let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
                let fields = Fields { sequence: 7, acknowledgement: u32::MAX, flags: ACK | PSH, window: 0xfffe };
                let mut out = Batch::default();
                Writer::new(ENDS).write(&mut out, fields, &options, [&payload[..cut], &payload[cut..]]);
                let packet = out.packets().next().expect("a packet");
                let inner = Inner::parse(packet).expect("an IPv6 packet");
                assert_eq!(inner.ends(), Some(Ends { local: ENDS.remote, remote: ENDS.local }));
                assert_eq!(packet::checksum(A, B, TCP, inner.payload), 0);
                let segment = Segment::parse(packet).expect("a segment");
                assert_eq!((segment.options, segment.payload), (options, &payload[..]));
                assert_eq!((segment.sequence, segment.acknowledgement, segment.window), (7, u32::MAX, 0xfffe));
            }
        }
    }

    /// An opening segment as Linux sends it: size 1220, selective acknowledgements, times, scale 9.
    #[test]
    fn the_options_of_linux_are_read() {
        let mut packet = vec![0; HEADERS + 20];
        packet::write_ipv6(&mut packet, A, B, TCP);
        packet[IPV6_HEADER + 12] = 10 << 4;
        packet[IPV6_HEADER + 13] = SYN;
        packet[HEADERS..].copy_from_slice(&[2, 4, 4, 196, 4, 2, 8, 10, 9, 9, 9, 9, 0, 0, 0, 0, 1, 3, 3, 9]);
        let segment = Segment::parse(&packet).expect("a segment");
        let wanted = Options { max_segment: Some(1220), scale: Some(9), sack_permitted: true, ..Options::default() };
        assert_eq!((segment.options, segment.length()), (wanted, 1));
    }

    #[test]
    fn a_reset_names_what_the_sender_expects_and_resets_are_not_answered() {
        let (mut out, mut answer) = (Batch::default(), Batch::default());
        let writer = Writer::new(ENDS);
        writer.write(&mut out, Fields { sequence: 99, flags: SYN, ..Fields::default() }, &Options::default(), [&[]; 2]);
        let data = Fields { sequence: 5, acknowledgement: 1234, flags: ACK, window: 0 };
        writer.write(&mut out, data, &Options::default(), [b"data", b""]);
        writer.write(&mut out, Fields { flags: RST, ..data }, &Options::default(), [&[]; 2]);
        out.packets().for_each(|packet| refuse(packet, &mut answer));
        let answers: Vec<_> = answer.packets().filter_map(Segment::parse).collect();
        assert_eq!(answers.len(), 2);
        assert_eq!((answers[0].flags, answers[0].sequence, answers[0].acknowledgement), (RST | ACK, 0, 100));
        assert_eq!((answers[1].flags, answers[1].sequence), (RST, 1234));
    }
}
