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
    let mut sum = Sum::default();
    sum.add(&source.octets());
    sum.add(&destination.octets());
    sum.add(&(body.len() as u32).to_be_bytes());
    sum.add(&[0, protocol]);
    sum.add(body);
    sum.finish()
}

/// An Internet checksum on its way (RFC 1071); the sum is the same in either byte order, so the machine's is used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Add bytes, of which only the last may be odd in number.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(4);
        let sum: u64 =
            words.by_ref().map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))).sum();
        let mut last = [0; 4];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.0 += sum + u64::from(u32::from_ne_bytes(last));
    }

    /// The checksum over everything that was added.
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::from_be(sum as u16)
    }
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
}
