//! Super-segments cut into runs, and the fates of packets on a line.

use std::time::{Duration, Instant};

use super::buffers::Pool;
use super::line::{Line, Settings};
use super::segments::{Packet, PREFIX_LEN};

const SEGMENT: usize = 100;

/// Take in a packet as the driver does.
fn read(bytes: &[u8]) -> Option<Packet> {
    let mut pool = Pool::new(128 << 10);
    pool.next()[..bytes.len()].copy_from_slice(bytes);
    Packet::new(pool.keep(bytes.len()))
}

/// Sum big-endian words, with carries.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn pseudo_header(ip: &[u8], transport_len: usize, protocol: u8) -> Vec<u8> {
    let addresses = if ip[0] >> 4 == 6 { &ip[8..40] } else { &ip[12..20] };
    let mut bytes = addresses.to_vec();
    bytes.extend((transport_len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// Write a super-segment as the kernel hands it over.
fn super_segment(ipv6: bool, udp: bool, payload_len: usize) -> Vec<u8> {
    let (ip_len, transport_len) = (if ipv6 { 40 } else { 20 }, if udp { 8 } else { 32 });
    let mut ip: Vec<u8> = vec![0; ip_len + transport_len];
    let total = ip.len() + payload_len;
    let protocol = if udp { 17 } else { 6 };
    if ipv6 {
        ip[0] = 0x60;
        ip[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        ip[6] = protocol;
        ip[8..40].copy_from_slice(&[7; 32]);
    } else {
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&65_534u16.to_be_bytes());
        ip[9] = protocol;
        ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = !sum(&ip[..20]) as u16;
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let checksum_at = if udp { 6 } else { 16 };
    if udp {
        ip[ip_len + 4..ip_len + 6].copy_from_slice(&((total - ip_len) as u16).to_be_bytes());
    } else {
        ip[ip_len + 4..ip_len + 8].copy_from_slice(&(u32::MAX - 50).to_be_bytes());
        ip[ip_len + 12] = 8 << 4;
        ip[ip_len + 13] = 0x80 | 0x10 | 0x08 | 0x01;
    }
    let partial = sum(&pseudo_header(&ip, total - ip_len, protocol)) as u16;
    ip[ip_len + checksum_at..ip_len + checksum_at + 2].copy_from_slice(&partial.to_be_bytes());
    ip.extend((0..payload_len).map(|index| (index % 251) as u8));
    let mut bytes = vec![
        1,
        if udp {
            5
        } else if ipv6 {
            0x84
        } else {
            0x81
        },
    ];
    for value in [ip_len + transport_len, SEGMENT, ip_len, checksum_at] {
        bytes.extend((value as u16).to_ne_bytes());
    }
    bytes.extend(ip);
    bytes
}

/// What a run is when written.
fn written(packet: &Packet, run: std::ops::Range<usize>) -> Vec<u8> {
    let (head, rest) = packet.run(run);
    head.map_or(rest.to_vec(), |head| [head.bytes(), rest].concat())
}

fn kinds() -> impl Iterator<Item = (bool, bool)> {
    [(false, false), (false, true), (true, false), (true, true)].into_iter()
}

#[test]
fn a_super_segment_knows_its_packets() {
    for (ipv6, udp) in kinds() {
        let packet = read(&super_segment(ipv6, udp, 10 * SEGMENT + 1)).expect("a packet");
        let head = if ipv6 { 40 } else { 20 } + if udp { 8 } else { 32 };
        assert_eq!(packet.count(), 11);
        assert_eq!(packet.wire_len(0), head + SEGMENT);
        assert_eq!(packet.wire_len(10), head + 1);
    }
}

#[test]
fn a_run_has_its_own_lengths_checksums_and_payload() {
    for (ipv6, udp) in kinds() {
        let whole = super_segment(ipv6, udp, 5 * SEGMENT + 7);
        let packet = read(&whole).expect("a packet");
        let (ip_len, transport_len) = (if ipv6 { 40 } else { 20 }, if udp { 8 } else { 32 });
        let head = ip_len + transport_len;
        for run in [0..2, 1..2, 2..5, 4..6, 5..6] {
            let bytes = written(&packet, run.clone());
            let ip = &bytes[PREFIX_LEN..];
            let payload = &whole[PREFIX_LEN + head..];
            let wanted = &payload[run.start * SEGMENT..(run.end * SEGMENT).min(payload.len())];
            assert_eq!(&ip[head..], wanted);
            let said = if ipv6 { 40 + read16(ip, 4) } else { read16(ip, 2) };
            assert_eq!(said, ip.len());
            if !ipv6 {
                assert_eq!(sum(&ip[..20]), 0xffff, "the header checksum is right");
                assert_eq!(read16(ip, 4), (65_534 + run.start) & 0xffff);
            }
            let partial = sum(&pseudo_header(ip, ip.len() - ip_len, if udp { 17 } else { 6 }));
            assert_eq!(read16(ip, ip_len + if udp { 6 } else { 16 }), partial as usize);
            if udp {
                assert_eq!(read16(ip, ip_len + 4), ip.len() - ip_len);
            } else {
                let sequence = (u32::MAX - 50).wrapping_add((run.start * SEGMENT) as u32);
                assert_eq!(&ip[ip_len + 4..ip_len + 8], sequence.to_be_bytes());
                let ends = if run.end == 6 { 0x09 } else { 0 };
                assert_eq!(ip[ip_len + 13], 0x10 | ends | if run.start == 0 { 0x80 } else { 0 });
            }
            let single = run.len() == 1;
            assert_eq!(bytes[1] & 0x7f, if single { 0 } else { whole[1] & 0x7f });
            assert_eq!(u16::from_ne_bytes([bytes[4], bytes[5]]), if single { 0 } else { SEGMENT as u16 });
        }
        assert_eq!(written(&packet, 0..6), whole);
    }
}

fn read16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

#[test]
fn what_is_no_super_segment_is_one_packet() {
    let mut plain = super_segment(true, true, 50);
    plain[1] = 0;
    assert_eq!(read(&plain).expect("a packet").count(), 1);
    assert!(read(&plain[..PREFIX_LEN + 10]).is_none());
}

#[test]
fn nonsense_in_the_virtio_header_is_one_packet() {
    for (at, value) in [(4, 0u16), (6, 60_000), (6, 0), (8, 60_000)] {
        let mut bytes = super_segment(false, false, 500);
        bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        let packet = read(&bytes).expect("a packet");
        assert_eq!(packet.count(), 1);
        assert_eq!(written(&packet, 0..1), bytes);
    }
}

fn packet(payload_len: usize) -> Packet {
    read(&super_segment(true, true, payload_len)).expect("a packet")
}

/// Everything that leaves until `until`, as (time since `start`, packets of the wire).
fn drain(line: &mut Line, start: Instant, until: Duration) -> Vec<(Duration, u64)> {
    let mut left = Vec::new();
    while let Some(at) = line.poll_timeout().filter(|at| *at <= start + until) {
        assert!(line.poll_transmit(at - Duration::from_nanos(1)).is_none(), "nothing leaves early");
        left.push((at - start, line.poll_transmit(at).expect("it is due").count()));
    }
    left
}

#[test]
fn a_delay_keeps_order_and_super_segments() {
    let start = Instant::now();
    let mut line = Line::new(Settings { delay: Duration::from_millis(10), ..Settings::default() }, 1);
    line.handle_packet(start, packet(1000));
    line.handle_packet(start, packet(300));
    let ten = Duration::from_millis(10);
    assert_eq!(drain(&mut line, start, ten), [(ten, 10), (ten, 3)]);
    assert_eq!(line.counters().delivered, 13);
}

#[test]
fn losses_leave_runs_and_are_those_of_the_seed() {
    let settings = Settings { loss: 0.1, ..Settings::default() };
    let start = Instant::now();
    let runs = |seed| {
        let mut line = Line::new(settings, seed);
        for _ in 0..100 {
            line.handle_packet(start, packet(40 * SEGMENT));
        }
        (drain(&mut line, start, Duration::ZERO), line.counters())
    };
    let (left, counters) = runs(7);
    assert_eq!(runs(7).0, left);
    assert_ne!(runs(8).0, left);
    assert_eq!(counters.packets, 4000);
    assert_eq!(counters.delivered + counters.lost, 4000);
    assert!((300..500).contains(&counters.lost), "{} of 4000 at 10 %", counters.lost);
    assert!(left.len() < 600, "survivors between two losses stay together: {} runs", left.len());
}

#[test]
fn the_reordered_are_late_and_alone() {
    let start = Instant::now();
    let (delay, extra) = (Duration::from_millis(10), Duration::from_millis(1));
    let settings = Settings { delay, reorder: 0.05, reorder_delay: extra, ..Settings::default() };
    let mut line = Line::new(settings, 3);
    for _ in 0..20 {
        line.handle_packet(start, packet(40 * SEGMENT));
    }
    let left = drain(&mut line, start, Duration::from_secs(1));
    let late: Vec<_> = left.iter().filter(|(at, _)| *at == delay + extra).collect();
    assert_eq!(late.len() as u64, line.counters().reordered);
    assert!(!late.is_empty() && late.iter().all(|(_, count)| *count == 1));
    assert!(left.iter().all(|(at, _)| *at == delay || *at == delay + extra));
    assert_eq!(left.iter().map(|(_, count)| count).sum::<u64>(), 800);
}

#[test]
fn duplicates_follow_their_originals() {
    let start = Instant::now();
    let mut line = Line::new(Settings { duplicate: 1.0, ..Settings::default() }, 1);
    line.handle_packet(start, packet(3 * SEGMENT));
    let ones = [(Duration::ZERO, 1); 6];
    assert_eq!(drain(&mut line, start, Duration::ZERO), ones);
    assert_eq!(line.counters().duplicated, 3);
}

#[test]
fn a_rate_spaces_packets_and_its_queue_overflows() {
    let start = Instant::now();
    let wire_len = 48 + SEGMENT;
    // One packet every two milliseconds, and room for five.
    let rate = wire_len as f64 * 8.0 / 0.002;
    let mut line = Line::new(Settings { rate, queue_len: 5 * wire_len, ..Settings::default() }, 1);
    line.handle_packet(start, packet(8 * SEGMENT));
    let left = drain(&mut line, start, Duration::from_secs(1));
    assert_eq!(left.len(), 5);
    for (index, (at, count)) in left.iter().enumerate() {
        assert_eq!(*count, 1);
        let off = at.as_secs_f64() - 0.002 * (index + 1) as f64;
        assert!(off.abs() < 1e-6, "packet {index} leaves at {at:?}");
    }
    assert_eq!(line.counters().overflowed, 3);
    line.handle_packet(start + Duration::from_secs(1), packet(SEGMENT));
    assert_eq!(drain(&mut line, start, Duration::from_secs(2)).len(), 1, "an idle line owes nothing");
}

#[test]
fn a_fast_rate_keeps_a_millisecond_together() {
    let start = Instant::now();
    let wire_len = 48 + SEGMENT;
    let rate = wire_len as f64 * 8.0 / 0.000_1; // ten packets a millisecond
    let mut line = Line::new(Settings { rate, queue_len: 1 << 20, ..Settings::default() }, 1);
    line.handle_packet(start, packet(40 * SEGMENT));
    let left = drain(&mut line, start, Duration::from_secs(1));
    assert!((4..=5).contains(&left.len()), "{left:?}");
}

#[test]
fn buffers_are_used_again_and_small_packets_hold_none() {
    let mut pool = Pool::new(64 << 10);
    pool.next()[0] = 1;
    let large = pool.keep(60 << 10);
    assert_eq!((large.len(), large[0]), (60 << 10, 1));
    pool.next()[0] = 2;
    let small = pool.keep(100);
    assert_eq!((small.len(), small[0]), (100, 2));
    assert_eq!(pool.spare(), 0);
    drop(small);
    assert_eq!(pool.spare(), 0, "it was a copy");
    drop(large);
    assert_eq!(pool.spare(), 1);
    assert_eq!(pool.keep(64 << 10).len(), 64 << 10);
}
