//! IPv6 fragments (RFC 8200 §4.5), for UDP datagrams that are larger than the tunnel's packets.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::packet::{self, Inner, FRAGMENT, IPV6_HEADER};

/// Length of a fragment header.
const HEADER: usize = 8;
/// A datagram whose last piece has not come within this is forgotten.
const PATIENCE: Duration = Duration::from_secs(30);
/// Datagrams of which pieces are held, and the bytes of all pieces together.
const MAX_PARTIAL: usize = 64;
const MAX_BYTES: usize = 1 << 20;
/// A datagram, headers included, is not longer than this.
const MAX_PAYLOAD: usize = 65_535;

/// Cut a packet into fragments of at most `mtu` bytes; `identification` tells its pieces from those of others.
pub fn split(whole: &[u8], mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let Some(inner) = Inner::parse(whole) else { return Vec::new() };
    let step = (mtu - IPV6_HEADER - HEADER) & !7;
    let count = inner.payload.len().div_ceil(step);
    let pieces = inner.payload.chunks(step).enumerate().map(|(index, piece)| {
        let mut out = vec![0; IPV6_HEADER + HEADER + piece.len()];
        packet::write_ipv6(&mut out, inner.source, inner.destination, FRAGMENT);
        let place = (index * step) as u16 | u16::from(index + 1 < count);
        out[IPV6_HEADER] = inner.protocol;
        out[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&place.to_be_bytes());
        out[IPV6_HEADER + 4..IPV6_HEADER + 8].copy_from_slice(&identification.to_be_bytes());
        out[IPV6_HEADER + HEADER..].copy_from_slice(piece);
        out
    });
    pieces.collect()
}

/// The pieces of a datagram that have come.
struct Partial {
    began_at: Instant,
    protocol: u8,
    /// Where each piece begins, and its bytes.
    pieces: Vec<(usize, Vec<u8>)>,
    /// How long the whole is; known when the last piece has come.
    length: Option<usize>,
}

/// Puts fragments together.
#[derive(Default)]
pub struct Reassembly {
    partial: HashMap<(Ipv6Addr, Ipv6Addr, u32), Partial>,
    bytes: usize,
}

impl Reassembly {
    /// Take a fragment; returns the whole packet when it was the last that was missing.
    pub fn push(&mut self, now: Instant, fragment: &Inner<'_>) -> Option<Vec<u8>> {
        let (header, piece) = fragment.payload.split_first_chunk::<HEADER>()?;
        let place = u16::from_be_bytes([header[2], header[3]]);
        let (start, more) = (usize::from(place & !7), place & 1 == 1);
        let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let end = start + piece.len();
        if piece.is_empty() || end > MAX_PAYLOAD || (more && piece.len() % 8 != 0) {
            return None;
        }
        self.forget_old(now);
        let key = (fragment.source, fragment.destination, identification);
        let known = self.partial.contains_key(&key);
        if self.bytes + piece.len() > MAX_BYTES || (!known && self.partial.len() >= MAX_PARTIAL) {
            return None;
        }
        let began = Partial { began_at: now, protocol: header[0], pieces: Vec::new(), length: None };
        let partial = self.partial.entry(key).or_insert(began);
        let overlaps = |(at, held): &(usize, Vec<u8>)| start < at + held.len() && *at < end;
        let contradicts = partial.length.is_some_and(|length| end > length || (!more && end != length));
        if partial.pieces.iter().any(overlaps) || contradicts {
            self.drop_partial(&key); // RFC 5722: whoever does that means no good
            return None;
        }
        if !more {
            partial.length = Some(end);
        }
        partial.pieces.push((start, piece.to_vec()));
        self.bytes += piece.len();
        let held: usize = partial.pieces.iter().map(|(_, piece)| piece.len()).sum();
        if partial.length != Some(held) {
            return None;
        }
        let whole = self.drop_partial(&key)?;
        let mut out = vec![0; IPV6_HEADER + held];
        packet::write_ipv6(&mut out, fragment.source, fragment.destination, whole.protocol);
        for (start, piece) in &whole.pieces {
            out.get_mut(IPV6_HEADER + start..IPV6_HEADER + start + piece.len())?.copy_from_slice(piece);
        }
        Some(out)
    }

    fn drop_partial(&mut self, key: &(Ipv6Addr, Ipv6Addr, u32)) -> Option<Partial> {
        let partial = self.partial.remove(key)?;
        self.bytes -= partial.pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>();
        Some(partial)
    }

    fn forget_old(&mut self, now: Instant) {
        let old = |partial: &Partial| now.saturating_duration_since(partial.began_at) > PATIENCE;
        let keys = self.partial.iter().filter(|(_, partial)| old(partial)).map(|(key, _)| *key);
        for key in keys.collect::<Vec<_>>() {
            self.drop_partial(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Ends;
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);

    fn datagram(length: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        packet::udp(Ends { local: (A, 1000), remote: (B, 2000) }, &payload)
    }

    fn feed(reassembly: &mut Reassembly, now: Instant, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let parsed = pieces.iter().map(|piece| Inner::parse(piece).expect("a fragment"));
        parsed.filter_map(|fragment| reassembly.push(now, &fragment)).collect()
    }

    #[test]
    fn fragments_in_any_order_make_the_same_packet() {
        let now = Instant::now();
        for length in [1233, 1500, 2464, 9000, 65_000] {
            let whole = datagram(length);
            let mut pieces = split(&whole, 1280, 7);
            assert!(pieces.iter().all(|piece| piece.len() <= 1280));
            for _ in 0..3 {
                pieces.rotate_left(1);
                let mut reassembly = Reassembly::default();
                assert_eq!(feed(&mut reassembly, now, &pieces), std::slice::from_ref(&whole));
                assert_eq!((reassembly.bytes, reassembly.partial.len()), (0, 0));
            }
            pieces.reverse();
            assert_eq!(feed(&mut Reassembly::default(), now, &pieces), [whole]);
        }
    }

    #[test]
    fn overlapping_fragments_are_dropped_whole() {
        let now = Instant::now();
        let pieces = split(&datagram(3000), 1280, 7);
        let mut reassembly = Reassembly::default();
        assert_eq!(feed(&mut reassembly, now, &[pieces[0].clone(), pieces[0].clone()]), Vec::<Vec<u8>>::new());
        assert!(reassembly.partial.is_empty());
    }

    #[test]
    fn what_never_completes_is_bounded_and_forgotten() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        for identification in 0..1000 {
            let pieces = split(&datagram(3000), 1280, identification);
            feed(&mut reassembly, now, &pieces[..2]);
        }
        assert!(reassembly.partial.len() <= MAX_PARTIAL && reassembly.bytes <= MAX_BYTES);
        let pieces = split(&datagram(3000), 1280, 5000);
        assert_eq!(feed(&mut reassembly, now + PATIENCE * 2, &pieces).len(), 1);
        assert_eq!((reassembly.bytes, reassembly.partial.len()), (0, 0));
    }

    #[test]
    fn truncated_and_oversized_fragments_are_ignored() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        for length in 0..16 {
            let payload = vec![0xff; length];
            let fragment = Inner { source: A, destination: B, protocol: FRAGMENT, payload: &payload };
            assert_eq!(reassembly.push(now, &fragment), None);
        }
    }
}
