//! The Internet checksum (RFC 1071), fast enough to run over every byte that is sent.

use crate::netstack::packet::IPV6_HEADER;

/// Add up the 16-bit words of `bytes` as this machine reads them; the order of bytes within a word does not matter to
/// the folded sum (RFC 1071 §2 B), so they need no swapping. Four words are added at once: what overflows is one more.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0_u64; 4];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, at) in lanes.iter_mut().zip([0, 8, 16, 24]) {
            let word = <[u8; 8]>::try_from(&block[at..at + 8]).map_or(0, u64::from_ne_bytes);
            let (added, overflow) = lane.overflowing_add(word);
            *lane = added + u64::from(overflow);
        }
    }
    let mut pairs = blocks.remainder().chunks_exact(2);
    let mut total: u64 = lanes.iter().map(|lane| (lane >> 32) + (lane & 0xffff_ffff)).sum();
    total += pairs.by_ref().map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum::<u64>();
    total + pairs.remainder().first().map_or(0, |last| u64::from(u16::from_ne_bytes([*last, 0])))
}

/// Fold a sum to 16 bits, in this machine's order of bytes.
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the pseudo-header (RFC 8200 §8.1) of a packet whose upper layer is `length` bytes of `protocol`.
pub fn pseudo(packet: &[u8], length: usize, protocol: u8) -> u64 {
    sum(&packet[8..IPV6_HEADER]) + sum(&(length as u32).to_be_bytes()) + sum(&[0, protocol])
}
