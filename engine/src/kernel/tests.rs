//! Two namespaces with nothing but our own code between them.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::*;
use crate::netstack::packet::Ends;
use crate::offload::{cut, unreachable, Coalescer, Header, Segment};
use crate::span::Span;

const LEFT: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
const RIGHT: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);
const MTU: usize = 1280;

fn open(address: Ipv6Addr, veth: bool) -> Option<Kernel> {
    let mut failures = Vec::new();
    let namespace = enter(&mut failures)?;
    let netlink = Netlink::open(&namespace).ok()?;
    let make = if veth { Device::veth } else { Device::tun };
    let device = make(&namespace, &netlink, MTU).map_err(|failure| eprintln!("skipped: {failure}")).ok()?;
    settle(&netlink, &[address]).expect("addresses");
    let limits = Limits::raise(&namespace);
    let sockets = Sockets::new(namespace, limits, Congestion::Auto).expect("sockets");
    Some(Kernel { sockets, device, reason: String::new() })
}

/// Carry what waits from one device to the other in packets of at most `limit` bytes; says whether there was anything.
fn carry(from: &Device, to: &Device, limit: usize, largest: &mut usize) -> bool {
    let mut buffer = vec![0; FRAME_ROOM];
    let (mut slab, mut spans) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        let Some((header, span)) = from.read(&mut buffer).expect("a working device") else { break };
        let whole = cut(&header, &mut buffer[span.start..span.end], limit, |packet| {
            *largest = packet.len().max(*largest);
            spans.push(Span { start: slab.len(), end: slab.len() + packet.len() });
            slab.extend_from_slice(packet);
        });
        assert!(whole, "the kernel's frames hold together");
    }
    let mut coalescer = Coalescer::default();
    spans.iter().for_each(|span| coalescer.push(&mut slab, *span));
    coalescer.drain(&mut slab, |header, slab, pieces| to.write(header, slab, pieces).expect("a working device"));
    !spans.is_empty()
}

fn transfer(veth: bool, limit: usize) {
    let (Some(left), Some(right)) = (open(LEFT, veth), open(RIGHT, veth)) else {
        return; // this system has no such device, which `open` has said
    };
    let listener = right.sockets.listen(22).expect("a listener");
    let mut near = left.sockets.connect(LEFT, (RIGHT, 22)).expect("a socket");
    let payload: Vec<u8> = (0..8_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (mut sent, mut received, mut far, mut largest) = (0, Vec::new(), None, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while received.len() < payload.len() {
        assert!(Instant::now() < deadline, "{} of {} bytes arrived", received.len(), payload.len());
        let moved = carry(&left.device, &right.device, limit, &mut largest)
            | carry(&right.device, &left.device, limit, &mut largest);
        if far.is_none() {
            far = listener.accept().ok().map(|(socket, _)| socket);
            far.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket"));
        }
        match near.write(&payload[sent..]) {
            Ok(count) => sent += count,
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected), "{error}"),
        }
        let mut buffer = [0; 1 << 16];
        while let Some(Ok(count)) = far.as_mut().map(|socket| socket.read(&mut buffer)) {
            received.extend_from_slice(&buffer[..count]);
        }
        if !moved {
            std::thread::yield_now();
        }
    }
    assert!(received == payload, "every byte arrived where it belongs");
    assert!(largest <= limit);
}

#[test]
fn a_stream_passes_between_two_tun_devices() {
    transfer(false, MTU);
}

#[test]
fn a_stream_passes_between_two_veth_pairs() {
    transfer(true, MTU);
}

#[test]
fn a_path_with_a_lower_mtu_is_served_by_smaller_packets() {
    transfer(false, 900);
}

#[test]
fn a_connection_goes_on_as_soon_as_the_network_is_back() {
    let (Some(left), Some(right)) = (open(LEFT, false), open(RIGHT, false)) else { return };
    let listener = right.sockets.listen(22).expect("a listener");
    let mut near = left.sockets.connect(LEFT, (RIGHT, 22)).expect("a socket");
    let mut largest = 0;
    while listener.accept().is_err() {
        carry(&left.device, &right.device, MTU, &mut largest);
        carry(&right.device, &left.device, MTU, &mut largest);
    }
    near.write_all(b"lost").expect("room");
    let mut buffer = vec![0; FRAME_ROOM];
    let mut next = || {
        let (_, span) = left.device.read(&mut buffer).expect("a working device")?;
        Segment::parse(&buffer[span.start..span.end])
    };
    let lost = next().expect("what was written");
    // The kernel repeats it less and less often. Wait for a pause that is long beside the next.
    let (mut sent_at, mut pause) = (Instant::now(), Duration::ZERO);
    while pause < Duration::from_millis(700) {
        if next().is_some() {
            (pause, sent_at) = (sent_at.elapsed(), Instant::now());
        }
        std::thread::yield_now();
    }
    while sent_at.elapsed() < pause {
        std::thread::yield_now();
    }
    if next().is_some() {
        return; // this machine is so busy that twice the pause has passed
    }
    let ends = Ends { local: lost.source, remote: lost.destination };
    let error = unreachable(&ends, lost.sequence);
    let whole = [Span { start: 0, end: error.len() }];
    for _ in 0..10 {
        left.device.write(&Header::default(), &error, &whole).expect("a working device");
    }
    assert_eq!(next().map(|again| again.sequence), Some(lost.sequence), "sent again at once");
}

#[test]
fn limits_and_the_congestion_control_are_what_was_asked_for() {
    let mut failures = Vec::new();
    let Some(namespace) = enter(&mut failures) else { return };
    let limits = Limits::raise(&namespace);
    let settable = namespace.open(c"/proc/sys/net/ipv4/tcp_rmem", libc::O_WRONLY).is_ok();
    assert_eq!(
        limits,
        Limits { windows: settable, patient: settable },
        "they are as wanted unless /proc/sys is read-only"
    );
    let sockets = Sockets::new(namespace, limits, Congestion::Cubic).expect("CUBIC is everywhere");
    assert_eq!(sockets.congestion(), "cubic");
}
