//! Inner packets: read and write the few header fields that the engine itself looks at.

use std::net::Ipv6Addr;

/// Length of an IPv6 header without extensions, which nobody sends inside the tunnel.
pub const IPV6_HEADER: usize = 40;
/// Length of a UDP header.
pub const UDP_HEADER: usize = 8;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
pub const ICMPV6: u8 = 58;
pub const TSMP: u8 = 99;

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const HOP_LIMIT: u8 = 64;

/// The two ends of a flow, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    pub local: (Ipv6Addr, u16),
    pub remote: (Ipv6Addr, u16),
}

/// An inner packet that passed the length checks.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a> {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub protocol: u8,
    pub payload: &'a [u8],
}

impl<'a> Inner<'a> {
    /// Read an IPv6 packet; `None` when it is something else or truncated.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        if packet.len() < IPV6_HEADER || packet[0] >> 4 != 6 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        Some(Self {
            source: address(&packet[8..24])?,
            destination: address(&packet[24..40])?,
            protocol: packet[6],
            payload: packet.get(IPV6_HEADER..IPV6_HEADER + length)?,
        })
    }

    /// The ends of a TCP or UDP packet, with ourselves as its destination.
    pub fn ends(&self) -> Option<Ends> {
        let header = self.payload.get(..4)?;
        Some(Ends {
            local: (self.destination, u16::from_be_bytes([header[2], header[3]])),
            remote: (self.source, u16::from_be_bytes([header[0], header[1]])),
        })
    }

    /// Whether this is a TCP segment that opens a connection.
    pub fn opens(&self) -> bool {
        const FIN_SYN_RST_ACK: u8 = 0x17;
        self.protocol == TCP && self.payload.len() >= 20 && self.payload[13] & FIN_SYN_RST_ACK == 0x02
    }

    /// The payload of a UDP packet whose length field is right.
    pub fn datagram(&self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes([*self.payload.get(4)?, *self.payload.get(5)?]));
        self.payload.get(UDP_HEADER..length)
    }

    /// The answer to an ICMPv6 echo request.
    pub fn echo_reply(&self) -> Option<Vec<u8>> {
        if self.protocol != ICMPV6 || self.payload.len() < 8 || self.payload[0] != ECHO_REQUEST {
            return None;
        }
        let mut out = vec![0; IPV6_HEADER + self.payload.len()];
        write_ipv6(&mut out, self.destination, self.source, ICMPV6);
        let body = &mut out[IPV6_HEADER..];
        body.copy_from_slice(self.payload);
        body[0] = ECHO_REPLY;
        body[2..4].fill(0);
        let sum = checksum(self.destination, self.source, ICMPV6, &out[IPV6_HEADER..]);
        out[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&sum.to_be_bytes());
        Some(out)
    }
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

/// Write an IPv6 header into the first bytes of `packet`, for all the bytes behind it.
pub fn write_ipv6(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr, protocol: u8) {
    let length = (packet.len() - IPV6_HEADER) as u16;
    packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = protocol;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&source.octets());
    packet[24..40].copy_from_slice(&destination.octets());
}

/// Write a UDP packet from our end of a flow to the other.
pub fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let length = UDP_HEADER + payload.len();
    let mut out = vec![0; IPV6_HEADER + length];
    write_ipv6(&mut out, ends.local.0, ends.remote.0, UDP);
    let body = &mut out[IPV6_HEADER..];
    body[..2].copy_from_slice(&ends.local.1.to_be_bytes());
    body[2..4].copy_from_slice(&ends.remote.1.to_be_bytes());
    body[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    body[UDP_HEADER..].copy_from_slice(payload);
    let sum = match checksum(ends.local.0, ends.remote.0, UDP, body) {
        0 => 0xffff, // RFC 8200 §8.1: zero would mean "no checksum", which IPv6 forbids
        sum => sum,
    };
    out[IPV6_HEADER + 6..IPV6_HEADER + 8].copy_from_slice(&sum.to_be_bytes());
    out
}

/// The Internet checksum of an upper-layer packet with its IPv6 pseudo-header (RFC 8200 §8.1).
pub fn checksum(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, body: &[u8]) -> u16 {
    let mut sum = words(&source.octets()) + words(&destination.octets()) + body.len() as u64 + u64::from(protocol);
    sum += words(body);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn words(bytes: &[u8]) -> u64 {
    let mut pairs = bytes.chunks_exact(2);
    let sum: u64 = pairs.by_ref().map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum + pairs.remainder().first().map_or(0, |last| u64::from(*last) << 8)
}

/// The fields of a TCP segment that loss recovery needs.
#[derive(Debug, Clone, Copy)]
pub struct Tcp {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub window: u16,
    /// Bytes of data.
    pub data: u32,
    /// It neither opens nor ends a connection.
    pub plain: bool,
    /// What arrived out of order (RFC 2018).
    pub arrived: [Option<(u32, u32)>; 4],
}

/// Read the TCP segment in an inner packet; `None` when it is something else or truncated.
pub fn tcp(packet: &[u8]) -> Option<Tcp> {
    const FIN_SYN_RST: u8 = 0x07;
    const ACK: u8 = 0x10;
    let header = packet.get(IPV6_HEADER..IPV6_HEADER + 20)?;
    if packet[6] != TCP {
        return None;
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let offset = IPV6_HEADER + usize::from(header[12] >> 4) * 4;
    let data = packet.len().checked_sub(offset)?;
    let options = packet.get(IPV6_HEADER + 20..offset)?;
    Some(Tcp {
        sequence: word(4),
        acknowledgement: word(8),
        window: u16::from_be_bytes([header[14], header[15]]),
        data: data as u32,
        plain: header[13] & (FIN_SYN_RST | ACK) == ACK,
        arrived: arrived(options),
    })
}

/// Read the selective acknowledgements among TCP options.
fn arrived(mut options: &[u8]) -> [Option<(u32, u32)>; 4] {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SACK: u8 = 5;
    let mut blocks = [None; 4];
    loop {
        match options {
            [] | [END, ..] => return blocks,
            [NOTHING, rest @ ..] => options = rest,
            [kind, length, ..] => {
                let Some(body) = options.get(2..usize::from(*length)) else { return blocks };
                if *kind == SACK {
                    for (block, bytes) in blocks.iter_mut().zip(body.chunks_exact(8)) {
                        let word =
                            |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                        *block = Some((word(0), word(4)));
                    }
                }
                options = &options[usize::from(*length)..];
            }
            [_] => return blocks,
        }
    }
}

/// Make an old segment acknowledge what a new one would.
pub fn refresh_tcp(packet: &mut [u8], acknowledgement: u32, window: u16) {
    let Some(Inner { source, destination, .. }) = Inner::parse(packet) else { return };
    let Some(segment) = packet.get_mut(IPV6_HEADER..).filter(|segment| segment.len() >= 20) else { return };
    segment[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    segment[14..16].copy_from_slice(&window.to_be_bytes());
    segment[16..18].fill(0);
    let sum = checksum(source, destination, TCP, segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);

    #[test]
    fn an_echo_request_is_answered_with_its_own_bytes() {
        let mut request = vec![0; IPV6_HEADER + 13];
        write_ipv6(&mut request, A, B, ICMPV6);
        request[IPV6_HEADER..].copy_from_slice(&[128, 0, 0, 0, 1, 2, 0, 7, b'h', b'e', b'l', b'l', b'o']);
        let reply = Inner::parse(&request).and_then(|inner| inner.echo_reply()).expect("an answer");
        let inner = Inner::parse(&reply).expect("a packet");
        assert_eq!((inner.source, inner.destination, inner.payload[0]), (B, A, 129));
        assert_eq!(inner.payload[4..], request[IPV6_HEADER + 4..]);
        assert_eq!(checksum(B, A, ICMPV6, inner.payload), 0, "the sum over a valid packet is zero");
        assert_eq!(inner.echo_reply(), None, "an answer is not answered");
    }

    #[test]
    fn a_udp_packet_reads_back_and_its_checksum_is_right() {
        for payload in [&b""[..], b"a", b"ab", &[0xff; 1232]] {
            let packet = udp(Ends { local: (A, 53), remote: (B, 4000) }, payload);
            let inner = Inner::parse(&packet).expect("a packet");
            assert_eq!(inner.ends(), Some(Ends { local: (B, 4000), remote: (A, 53) }));
            assert_eq!(inner.datagram(), Some(payload));
            assert_eq!(checksum(A, B, UDP, inner.payload), 0);
        }
    }

    /// The sum is written out here as RFC 8200 §8.1 defines it.
    #[test]
    fn the_checksum_of_a_known_packet() {
        let body = [0x00, 0x35, 0x0f, 0xa0, 0x00, 0x0a, 0x00, 0x00, b'h', b'i'];
        let words: u32 = 2 * (0xfd7a + 0x115c + 0xa1e0) + 1 + 2 + 10 + 17 + 0x35 + 0xfa0 + 0x0a + 0x6869;
        let folded = (words & 0xffff) + (words >> 16);
        assert_eq!(checksum(A, B, UDP, &body), !(folded as u16));
    }

    #[test]
    fn selective_acknowledgements_are_read_however_they_are_padded() {
        let blocks = |options: &[u8]| arrived(options).iter().flatten().copied().collect::<Vec<_>>();
        let one = [5, 10, 0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(blocks(&one), [(1, 9)]);
        assert_eq!(blocks(&[&[1, 1][..], &one, &[0]].concat()), [(1, 9)]);
        assert_eq!(blocks(&[&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0][..], &one].concat()), [(1, 9)]);
        for broken in [&[5][..], &[5, 0], &[5, 1], &[5, 40, 1], &[8, 0, 5, 10], &one[..9]] {
            assert_eq!(blocks(broken), []);
        }
    }

    #[test]
    fn a_segment_sent_again_says_what_a_new_one_would() {
        let mut packet = vec![0; IPV6_HEADER + 25];
        write_ipv6(&mut packet, A, B, TCP);
        packet[IPV6_HEADER + 12] = 5 << 4;
        packet[IPV6_HEADER + 13] = 0x10;
        packet[IPV6_HEADER + 20..].copy_from_slice(b"hello");
        refresh_tcp(&mut packet, 77, 88);
        let tcp = tcp(&packet).expect("a segment");
        assert_eq!((tcp.acknowledgement, tcp.window, tcp.data, tcp.plain), (77, 88, 5, true));
        assert_eq!(checksum(A, B, TCP, &packet[IPV6_HEADER..]), 0);
    }
}
