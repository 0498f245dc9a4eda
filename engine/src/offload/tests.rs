//! Cutting and joining again changes nothing, whatever the sizes, flags and neighbours.

use std::net::Ipv6Addr;

use super::segment::{CWR, PSH};
use super::*;
use crate::netstack::packet::{checksum, write_ipv6, Ends, Inner, ICMPV6, IPV6_HEADER, TCP};
use crate::span::Span;

const A: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
const B: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);
/// Time stamps (RFC 7323) with padding, as every segment of a kernel has.
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

/// A segment as a kernel hands it over: without its sum.
fn segment(port: u16, sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; IPV6_HEADER + 32 + data.len()];
    let length = packet.len();
    write_ipv6(&mut packet[..], A, B, TCP);
    packet[4..6].copy_from_slice(&((length - IPV6_HEADER).min(65_535) as u16).to_be_bytes());
    let tcp = &mut packet[IPV6_HEADER..];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&22_u16.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&77_u32.to_be_bytes());
    tcp[12] = 8 << 4;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&500_u16.to_be_bytes());
    tcp[20..32].copy_from_slice(&OPTIONS);
    tcp[32..].copy_from_slice(data);
    packet
}

fn bytes(count: usize, seed: u8) -> Vec<u8> {
    (0..count).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8).collect()
}

fn partial(size: Option<usize>) -> Header {
    Header { checksum: Some((IPV6_HEADER, 16)), segment: size, ecn: false, headers: IPV6_HEADER + 32 }
}

fn cut_all(header: &Header, packet: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    assert!(cut(header, &mut packet.to_vec(), limit, |packet| packets.push(packet.to_vec())));
    packets
}

fn assert_valid(packet: &[u8]) {
    let inner = Inner::parse(packet).expect("a packet");
    assert_eq!(inner.payload.len(), packet.len() - IPV6_HEADER, "the length field is right");
    assert_eq!(checksum(inner.source, inner.destination, TCP, inner.payload), 0, "the sum is right");
}

/// What a device would get: the header of each train, and its bytes put together.
fn join(packets: &[Vec<u8>]) -> Vec<(Header, Vec<u8>)> {
    let (mut slab, mut coalescer) = (packets.concat(), Coalescer::default());
    let mut start = 0;
    for packet in packets {
        coalescer.push(&mut slab, Span { start, end: start + packet.len() });
        start += packet.len();
    }
    let mut trains = Vec::new();
    coalescer.drain(&mut slab, |header, slab, pieces| {
        let whole = pieces.iter().flat_map(|span| slab[span.start..span.end].to_vec()).collect();
        trains.push((*header, whole));
    });
    assert!(coalescer.is_empty());
    trains
}

#[test]
fn a_cut_segment_joins_to_the_same_bytes_with_right_sums_in_between() {
    for size in [1, 2, 3, 535, 1207, 1208] {
        for length in [1, size - 1, size, size + 1, 3 * size, 7 * size + 5, 40 * size] {
            if length == 0 || length > 50_000 {
                continue;
            }
            let whole = segment(4000, u32::MAX - 1000, ACK | PSH, &bytes(length, size as u8));
            let packets = cut_all(&partial(Some(size)), &whole, 1280);
            assert_eq!(packets.len(), length.div_ceil(size));
            packets.iter().for_each(|packet| assert_valid(packet));
            let joined = join(&packets);
            assert_eq!(joined.len(), packets.len().div_ceil(MAX_PIECES), "size {size}, length {length}");
            let data = joined.iter().flat_map(|(_, whole)| whole[IPV6_HEADER + 32..].to_vec()).collect::<Vec<_>>();
            assert_eq!(data, whole[IPV6_HEADER + 32..]);
            let (header, first) = &joined[0];
            assert_eq!(header.segment, (packets.len() > 1).then_some(size));
            if joined.len() == 1 {
                let mut expected = whole.clone();
                expected[56..58].copy_from_slice(&first[56..58]); // the sum, which is not complete on either side
                assert_eq!(*first, expected);
            }
        }
    }
}

#[test]
fn joined_segments_cut_to_the_same_packets_again() {
    let whole = segment(4000, 5, ACK | PSH | FIN, &bytes(20_000, 3));
    let packets = cut_all(&partial(Some(1208)), &whole, 1280);
    let (header, joined) = &join(&packets)[0];
    assert_eq!(cut_all(header, joined, 1280), packets);
}

#[test]
fn only_the_last_packet_ends_and_only_the_first_says_that_it_slowed_down() {
    let whole = segment(4000, 5, ACK | PSH | FIN | CWR, &bytes(3000, 0));
    let packets = cut_all(&Header { ecn: true, ..partial(Some(1208)) }, &whole, 1280);
    let flags: Vec<u8> = packets.iter().map(|packet| packet[IPV6_HEADER + 13]).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | PSH | FIN]);
}

#[test]
fn a_lower_limit_cuts_smaller_even_what_was_one_packet() {
    let single = segment(4000, 5, ACK | PSH, &bytes(1208, 1));
    for (limit, pieces) in [(1280, 1), (1279, 2), (700, 2), (672, 3), (73, 1208)] {
        for header in [partial(None), partial(Some(1208))] {
            let packets = cut_all(&header, &single, limit);
            assert_eq!(packets.len(), pieces, "limit {limit}");
            packets.iter().for_each(|packet| assert_valid(packet));
            assert!(packets.iter().all(|packet| packet.len() <= limit));
            let data: Vec<u8> = packets.iter().flat_map(|packet| packet[72..].to_vec()).collect();
            assert_eq!(data, single[72..]);
        }
    }
    assert!(!cut(&partial(None), &mut single.clone(), 72, |_| panic!("no data fits")));
}

#[test]
fn a_segment_without_data_goes_out_whole_with_its_sum() {
    for flags in [ACK, SYN, SYN | ACK, RST, FIN | ACK] {
        let packets = cut_all(&partial(None), &segment(4000, 5, flags, b""), 1280);
        assert_eq!(packets.len(), 1);
        assert_valid(&packets[0]);
    }
}

#[test]
fn what_does_not_hold_together_is_not_cut() {
    let nothing = |_: &[u8]| panic!("nothing comes of it");
    let whole = segment(4000, 5, ACK, &bytes(100, 0));
    assert!(!cut(&partial(Some(50)), &mut [], 1280, nothing));
    assert!(!cut(&partial(Some(50)), &mut whole[..50].to_vec(), 1280, nothing));
    let mut short = whole.clone();
    short[IPV6_HEADER + 12] = 4 << 4;
    assert!(!cut(&partial(Some(50)), &mut short, 1280, nothing), "a TCP header of 16 bytes");
    let mut long = whole[..70].to_vec();
    long[IPV6_HEADER + 12] = 15 << 4;
    assert!(!cut(&partial(Some(50)), &mut long, 1280, nothing), "options past the end");
    let beyond = Header { checksum: Some((5000, 16)), ..Header::default() };
    assert!(!cut(&beyond, &mut [0x60; 60], 1280, nothing));
}

#[test]
fn many_connections_are_joined_at_once_and_none_is_reordered() {
    let mut packets = Vec::new();
    for round in 0..10_u32 {
        for port in 0..12_u16 {
            packets.push(
                cut_all(&partial(None), &segment(port, round * 100, ACK, &bytes(100, port as u8)), 1280).remove(0),
            );
        }
    }
    let joined = join(&packets);
    assert_eq!(joined.len(), 12, "one train a connection");
    for (header, whole) in joined {
        let port = u16::from_be_bytes([whole[IPV6_HEADER], whole[IPV6_HEADER + 1]]);
        assert_eq!(header.segment, Some(100));
        assert_eq!(whole[72..], bytes(100, port as u8).repeat(10));
    }
}

#[test]
fn what_differs_is_not_joined() {
    let first = segment(4000, 0, ACK, &bytes(100, 0));
    let next = |change: fn(&mut Vec<u8>)| {
        let mut packet = segment(4000, 100, ACK, &bytes(100, 1));
        change(&mut packet);
        join(&[first.clone(), packet]).len()
    };
    assert_eq!(next(|_| {}), 1);
    assert_eq!(next(|packet| packet[IPV6_HEADER + 7] ^= 1), 2, "a gap");
    assert_eq!(next(|packet| packet[IPV6_HEADER + 11] ^= 1), 2, "another acknowledgement");
    assert_eq!(next(|packet| packet[IPV6_HEADER + 15] ^= 1), 2, "another window");
    assert_eq!(next(|packet| packet[IPV6_HEADER + 31] ^= 1), 2, "another time stamp");
    assert_eq!(next(|packet| packet[1] ^= 0x30), 2, "marked on its way (ECN)");
    assert_eq!(next(|packet| packet[IPV6_HEADER + 13] |= CWR), 2, "other flags");
    assert_eq!(next(|packet| packet.push(0)), 2, "larger than the first");
    assert_eq!(next(|packet| packet.truncate(150)), 1, "a shorter last one");
    let after_short = [first.clone(), segment(4000, 100, ACK, &bytes(50, 0)), segment(4000, 150, ACK, &bytes(50, 0))];
    assert_eq!(join(&after_short).len(), 2, "nothing follows a shorter one");
    let after_end = [segment(4000, 0, ACK | PSH, &bytes(100, 0)), segment(4000, 100, ACK, &bytes(100, 0))];
    assert_eq!(join(&after_end).len(), 2, "nothing follows the end of what was written at once");
    assert_eq!(join(&[segment(4000, 0, ACK, b""), first.clone()]).len(), 2, "an acknowledgement stays alone");
}

#[test]
fn a_super_segment_never_exceeds_what_its_length_field_says() {
    let packets: Vec<Vec<u8>> = (0..60_u32).map(|n| segment(1, n * 1400, ACK, &bytes(1400, 0))).collect();
    let joined = join(&packets);
    assert_eq!(joined.len(), 2);
    for (_, whole) in joined {
        assert_eq!(usize::from(u16::from_be_bytes([whole[4], whole[5]])), whole.len() - IPV6_HEADER);
    }
}

#[test]
fn random_bytes_neither_panic_nor_grow() {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    for _ in 0..20_000 {
        let mut packet = segment(next() as u16, next() as u32, next() as u8, &bytes(next() % 300, 0));
        for _ in 0..next() % 4 {
            let at = next() % packet.len();
            packet[at] = next() as u8;
        }
        packet.truncate(next() % (packet.len() + 1));
        let mut head = [0; HEADER];
        head.iter_mut().for_each(|byte| *byte = if next() % 3 == 0 { next() as u8 } else { 0 });
        if let Some(header) = Header::parse(&head) {
            let (mut total, limit) = (0, 60 + next() % 200);
            cut(&header, &mut packet.clone(), limit, |packet| total += packet.len());
            assert!(total <= packet.len() * 121, "at most one byte of data behind 120 of headers");
        }
        let span = Span { start: 0, end: packet.len() };
        let mut coalescer = Coalescer::default();
        coalescer.push(&mut packet, span);
        coalescer.push(&mut packet, span);
        coalescer.drain(&mut packet, |_, _, _| {});
    }
}

#[test]
fn device_headers_read_back_and_move_with_the_frame() {
    for header in [Header::default(), partial(None), partial(Some(1208)), Header { ecn: true, ..partial(Some(9)) }] {
        assert_eq!(Header::parse(&header.bytes()), Some(header));
        assert_eq!(header.behind(14).without(14), Some(header));
    }
    assert_eq!(partial(None).without(41), None);
    for kind in [1, 3, 5, 0x7f] {
        let mut bytes = partial(Some(1208)).bytes();
        bytes[1] = kind;
        assert_eq!(Header::parse(&bytes), None, "kind {kind}");
    }
}

#[test]
fn a_reset_answers_as_rfc_9293_says() {
    let ends = Ends { local: (B, 22), remote: (A, 4000) };
    let parse = |packet: &[u8]| {
        assert_valid(packet);
        Segment::parse(packet).expect("a segment")
    };
    let to_opening = parse(&reset_for(&segment(4000, 9, SYN, b"")).expect("an answer"));
    assert_eq!((to_opening.sequence, to_opening.acknowledgement, to_opening.flags), (0, 10, RST | ACK));
    assert_eq!((to_opening.source, to_opening.destination), (ends.local, ends.remote));
    let to_data = parse(&reset_for(&segment(4000, 9, ACK, b"12345")).expect("an answer"));
    assert_eq!((to_data.sequence, to_data.acknowledgement), (77, 14));
    assert_eq!(reset_for(&segment(4000, 9, RST, b"")), None);
    assert_eq!(reset_for(b"short"), None);
}

#[test]
fn an_unreachable_error_quotes_the_segment_it_is_about() {
    let ends = Ends { local: (A, 4000), remote: (B, 22) };
    let packet = unreachable(&ends, 0x0102_0304);
    let inner = Inner::parse(&packet).expect("a packet");
    assert_eq!((inner.source, inner.destination, inner.protocol), (B, A, ICMPV6));
    assert_eq!(checksum(B, A, ICMPV6, inner.payload), 0);
    assert_eq!(inner.payload[..2], [1, 0]);
    let quoted = &inner.payload[8..];
    assert_eq!((&quoted[8..24], &quoted[24..40]), (&A.octets()[..], &B.octets()[..]));
    assert_eq!(quoted[40..], [0x0f, 0xa0, 0, 22, 1, 2, 3, 4]);
}
