//! From one super-segment to packets.

use super::checksum::{fold, pseudo, sum};
use super::header::Header;
use super::segment::{CHECKSUM_AT, CWR, FIN, PSH};
use crate::netstack::packet::{IPV6_HEADER, TCP};

/// Cut what a kernel handed over into packets of at most `limit` bytes, each with sums of its own.
///
/// Packets are made in place: the headers of the next overwrite the end of the last, which `out` has done with by
/// then. A packet that is no TCP segment goes out as it is. Returns `false` for what does not hold together.
pub fn cut(header: &Header, packet: &mut [u8], limit: usize, mut out: impl FnMut(&[u8])) -> bool {
    let Some(headers) = tcp_headers(packet) else {
        return header.segment.is_none() && complete(header, packet) && {
            out(packet);
            true
        };
    };
    let data = packet.len() - headers;
    let Some(room) = limit.checked_sub(headers).filter(|room| *room > 0 || data == 0) else { return false };
    let size = header.segment.unwrap_or(data).min(room);
    if data <= size {
        finish(packet, headers);
        out(packet);
        return true;
    }
    let mut template = [0; IPV6_HEADER + 60];
    let template = &mut template[..headers];
    template.copy_from_slice(&packet[..headers]);
    let flags = template[IPV6_HEADER + 13];
    let first_number = u32::from_be_bytes([template[44], template[45], template[46], template[47]]);
    for done in (0..data).step_by(size) {
        let piece = size.min(data - done);
        let made = &mut packet[done..done + headers + piece];
        made[..headers].copy_from_slice(template);
        made[IPV6_HEADER + 4..IPV6_HEADER + 8].copy_from_slice(&first_number.wrapping_add(done as u32).to_be_bytes());
        let last = done + piece == data;
        let not_here = if last { 0 } else { FIN | PSH } | if done == 0 { 0 } else { CWR };
        made[IPV6_HEADER + 13] = flags & !not_here;
        finish(made, headers);
        out(made);
    }
    true
}

/// The length of the headers of a whole TCP segment.
fn tcp_headers(packet: &[u8]) -> Option<usize> {
    let tcp = packet.get(IPV6_HEADER..IPV6_HEADER + 20).filter(|_| packet[0] >> 4 == 6 && packet[6] == TCP)?;
    let headers = IPV6_HEADER + usize::from(tcp[12] >> 4) * 4;
    (headers >= IPV6_HEADER + 20 && headers <= packet.len()).then_some(headers)
}

/// Write the length and the sum of a TCP packet.
fn finish(packet: &mut [u8], headers: usize) {
    debug_assert!(headers <= packet.len());
    let length = packet.len() - IPV6_HEADER;
    packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    let at = IPV6_HEADER + CHECKSUM_AT;
    packet[at..at + 2].fill(0);
    let sum = !fold(pseudo(packet, length, TCP) + sum(&packet[IPV6_HEADER..]));
    packet[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
}

/// Write the missing sum of any packet.
fn complete(header: &Header, packet: &mut [u8]) -> bool {
    let Some((start, offset)) = header.checksum else { return true };
    let Some(body) = packet.get(start..).filter(|body| body.len() >= offset + 2) else { return false };
    let sum = !fold(sum(body));
    packet[start + offset..start + offset + 2].copy_from_slice(&sum.to_ne_bytes());
    true
}
