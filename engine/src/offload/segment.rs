//! The TCP fields that the engine looks at, and resets in a peer's or the kernel's name.

use std::net::Ipv6Addr;

use super::checksum::{fold, pseudo, sum};
use crate::netstack::packet::{write_ipv6, Ends, ICMPV6, IPV6_HEADER, TCP};
use crate::netstack::TcpOptions;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const CWR: u8 = 0x80;

/// A TCP header without options.
const TCP_HEADER: usize = 20;
/// Where the checksum stands in a TCP header.
pub const CHECKSUM_AT: usize = 16;

/// A TCP segment in an IPv6 packet, seen as a sender's (`source` is the sender).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub source: (Ipv6Addr, u16),
    pub destination: (Ipv6Addr, u16),
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    /// As it is written, not shifted yet.
    pub window: u16,
    /// By how many bits the sender's windows are shifted from here on: only an opening segment says so.
    pub scale: Option<u8>,
    /// Length of the IPv6 and the TCP header.
    pub headers: usize,
    /// Bytes of data.
    pub data: usize,
}

impl Segment {
    /// Read a packet; `None` when it is no whole TCP segment.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let tcp = packet.get(IPV6_HEADER..IPV6_HEADER + TCP_HEADER)?;
        if packet[0] >> 4 != 6 || packet[6] != TCP {
            return None;
        }
        let address = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).map(Ipv6Addr::from).ok();
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let options = usize::from(tcp[12] >> 4) * 4;
        let headers = IPV6_HEADER + options;
        Some(Self {
            source: (address(8)?, half(0)),
            destination: (address(24)?, half(2)),
            sequence: word(4),
            acknowledgement: word(8),
            flags: tcp[13],
            window: half(14),
            scale: match tcp[13] & SYN {
                0 => None,
                _ => TcpOptions::parse(packet.get(IPV6_HEADER + TCP_HEADER..headers)?).scale,
            },
            headers,
            data: packet.len().checked_sub(headers).filter(|_| options >= TCP_HEADER)?,
        })
    }

    /// The number after everything that the segment carries (RFC 9293 §3.4).
    pub fn end(&self) -> u32 {
        let marks = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.sequence.wrapping_add(self.data as u32).wrapping_add(marks)
    }

    /// Whether it opens a connection.
    pub fn opens(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }
}

/// Give a segment another number; its sum is left to `cut`.
pub fn renumber(packet: &mut [u8], sequence: u32) {
    packet[IPV6_HEADER + 4..IPV6_HEADER + 8].copy_from_slice(&sequence.to_be_bytes());
}

/// Write a reset from `ends.local` to `ends.remote`.
pub fn reset(ends: &Ends, sequence: u32, acknowledgement: u32) -> [u8; IPV6_HEADER + TCP_HEADER] {
    let mut packet = [0; IPV6_HEADER + TCP_HEADER];
    write_ipv6(&mut packet, ends.local.0, ends.remote.0, TCP);
    let tcp = &mut packet[IPV6_HEADER..];
    tcp[..2].copy_from_slice(&ends.local.1.to_be_bytes());
    tcp[2..4].copy_from_slice(&ends.remote.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    tcp[12] = (TCP_HEADER as u8 / 4) << 4;
    tcp[13] = RST | ACK;
    let sum = !fold(pseudo(&packet, TCP_HEADER, TCP) + sum(&packet[IPV6_HEADER..]));
    packet[IPV6_HEADER + CHECKSUM_AT..IPV6_HEADER + CHECKSUM_AT + 2].copy_from_slice(&sum.to_ne_bytes());
    packet
}

/// Write the reset that answers a segment for which there is no connection (RFC 9293 §3.10.7.1); a reset gets none.
pub fn reset_for(packet: &[u8]) -> Option<[u8; IPV6_HEADER + TCP_HEADER]> {
    let segment = Segment::parse(packet).filter(|segment| segment.flags & RST == 0)?;
    let ends = Ends { local: segment.destination, remote: segment.source };
    let sequence = if segment.flags & ACK != 0 { segment.acknowledgement } else { 0 };
    Some(reset(&ends, sequence, segment.end()))
}

/// Length of an ICMPv6 error that quotes the start of a TCP segment.
const UNREACHABLE: usize = IPV6_HEADER + 8 + IPV6_HEADER + 8;

/// Write the ICMPv6 error "no route" about the segment from `ends.local` with this number (RFC 4443 §3.1), as the
/// peer would send it.
///
/// A kernel that repeats that segment more and more seldom takes it for a sign that the network is broken, not full,
/// and repeats it at once or a step sooner (RFC 6069).
pub fn unreachable(ends: &Ends, sequence: u32) -> [u8; UNREACHABLE] {
    let mut packet = [0; UNREACHABLE];
    write_ipv6(&mut packet, ends.remote.0, ends.local.0, ICMPV6);
    let error = &mut packet[IPV6_HEADER..];
    error[0] = 1; // destination unreachable; the code for "no route" is 0
    let quoted = &mut error[8..];
    write_ipv6(quoted, ends.local.0, ends.remote.0, TCP);
    let tcp = &mut quoted[IPV6_HEADER..];
    tcp[..2].copy_from_slice(&ends.local.1.to_be_bytes());
    tcp[2..4].copy_from_slice(&ends.remote.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = !fold(pseudo(&packet, UNREACHABLE - IPV6_HEADER, ICMPV6) + sum(&packet[IPV6_HEADER..]));
    packet[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&sum.to_ne_bytes());
    packet
}
