//! The kernel's TCP as a stack of this node: packets between its device and the tunnel.

mod connections;
mod dials;
mod held;
mod listeners;
mod orphans;

use std::io;
use std::net::Ipv6Addr;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use slab::Slab;

use super::node::{token, Node, DEVICE};
use super::peers::PeerId;
use crate::kernel::{Kernel, FRAME_ROOM};
use crate::netstack::packet::Ends;
use crate::offload::{self, Coalescer, Header, Segment};
use crate::span::Span;
use connections::{Connections, Passing};
use dials::Dial;
use held::Held;
use listeners::Listeners;

/// Steps by which a connection's pause between two attempts is halved when the network is back: from two minutes to
/// what the path needs.
const NUDGES: usize = 10;
/// At so many ticks more it is told again: the kernel hears no such error while a program writes to the connection.
const NUDGED_AGAIN: u8 = 2;
/// Segments taken from the device before other work gets its turn: about a megabyte.
const TURN: usize = 16;

/// The kernel's TCP and what the node knows of it.
pub struct KernelStack {
    kernel: Kernel,
    readable: bool,
    buffer: Vec<u8>,
    coalescer: Coalescer,
    connections: Connections,
    held: Held,
    dials: Slab<Dial>,
    listeners: Listeners,
    /// When orphans were last looked for.
    looked_at: Option<Instant>,
    /// Addresses that are to be nudged again, and how often.
    nudged: Vec<(Ipv6Addr, u8)>,
}

impl KernelStack {
    pub fn new(kernel: Kernel, registry: &Registry) -> io::Result<Self> {
        registry.register(&mut SourceFd(&kernel.device.fd()), token(DEVICE, 0), Interest::READABLE)?;
        Ok(Self {
            kernel,
            readable: true,
            buffer: vec![0; FRAME_ROOM],
            coalescer: Coalescer::default(),
            connections: Connections::default(),
            held: Held::default(),
            dials: Slab::new(),
            listeners: Listeners::default(),
            looked_at: None,
            nudged: Vec::new(),
        })
    }

    /// The device has something.
    pub fn wake(&mut self) {
        self.readable = true;
    }

    pub fn busy(&self) -> bool {
        self.readable
    }

    /// Whether somebody waits for a connection to open.
    pub fn opening(&self) -> bool {
        !self.dials.is_empty() || self.listeners.waiting()
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Hand one packet to the kernel.
    fn inject(&mut self, now: Instant, packet: &[u8]) -> io::Result<()> {
        let (mut slab, mut alone) = (packet.to_vec(), Coalescer::default());
        alone.push(&mut slab, Span { start: 0, end: packet.len() });
        let (mut result, device, connections) = (Ok(()), &self.kernel.device, &mut self.connections);
        alone.drain(&mut slab, |header, slab, pieces| {
            note_inward(connections, now, slab, pieces);
            result = device.write(header, slab, pieces);
        });
        result
    }

    /// Let the kernel repeat a segment sooner: its pause is halved so often, and what is overdue then is sent at once.
    fn hasten(&self, ends: &Ends, number: u32, halvings: usize) {
        let error = offload::unreachable(ends, number);
        let whole = [Span { start: 0, end: error.len() }];
        for _ in 0..halvings {
            let _ = self.kernel.device.write(&Header::default(), &error, &whole);
            // it tries by itself too
        }
    }
}

/// Keep count of a connection to which a train belongs.
fn note_inward(connections: &mut Connections, now: Instant, slab: &[u8], pieces: &[Span]) {
    let Some((first, rest)) = pieces.split_first() else { return };
    let Some(segment) = Segment::parse(&slab[first.start..first.end]) else { return };
    let data = segment.data + rest.iter().map(|span| span.end - span.start).sum::<usize>();
    connections.inward(now, &segment, data);
}

impl Node {
    /// Take what the kernel wants sent.
    pub fn device_turn(&mut self, now: Instant) {
        let Some(kernel) = self.kernel.as_mut().filter(|kernel| kernel.readable) else { return };
        let mut buffer = std::mem::take(&mut kernel.buffer);
        for _ in 0..TURN {
            let Some(kernel) = self.kernel.as_mut() else { break };
            match kernel.kernel.device.read(&mut buffer) {
                Ok(Some((header, span))) => self.on_device(now, header, &mut buffer[span.start..span.end]),
                Ok(None) | Err(_) => {
                    kernel.readable = false;
                    break;
                }
            }
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.buffer = buffer;
        }
        self.flush(now);
    }

    fn on_device(&mut self, now: Instant, header: Header, packet: &mut [u8]) {
        // Whatever else a kernel sends, like looking for routers, is not for the tunnel.
        let Some(segment) = Segment::parse(packet) else { return };
        let ours = self.config.addresses.contains(&segment.source.0);
        let Some(peer) = self.peers.owner(&segment.destination.0).filter(|_| ours) else { return };
        let Some(kernel) = &mut self.kernel else { return };
        match kernel.connections.outward(now, &segment) {
            Passing::Usual => {}
            Passing::Late { halvings } => {
                let ends = Ends { local: segment.source, remote: segment.destination };
                kernel.hasten(&ends, segment.sequence, halvings);
            }
            Passing::Probe => kernel.connections.keep_probe(&segment, packet),
        }
        let waits = kernel.held.holds(peer);
        if !waits && !self.blocked(now, peer) {
            self.send_segment(now, peer, &header, packet);
        } else if !self.kernel.as_mut().is_some_and(|kernel| kernel.held.push(peer, header, packet)) {
            self.totals.dropped_packets += 1;
        }
    }

    fn send_segment(&mut self, now: Instant, peer: PeerId, header: &Header, packet: &mut [u8]) {
        let limit = self.inner_mtu(peer);
        if !offload::cut(header, packet, limit, |packet| self.send_inner(now, peer, packet)) {
            self.totals.dropped_packets += 1;
        }
    }

    /// Send what waited, where the way out has room again.
    pub fn feed_held(&mut self, now: Instant) {
        let Some(kernel) = self.kernel.as_ref().filter(|kernel| !kernel.held.is_empty()) else { return };
        for peer in kernel.held.peers() {
            while !self.blocked(now, peer) {
                let Some((header, mut packet)) = self.kernel.as_mut().and_then(|kernel| kernel.held.pop(peer)) else {
                    break;
                };
                self.send_segment(now, peer, &header, &mut packet);
            }
        }
        self.flush(now);
    }

    /// A segment for us stands in the slab.
    pub fn kernel_on_tcp(&mut self, now: Instant, peer: PeerId, ends: Ends, opens: bool, span: Span) {
        let Some(kernel) = &mut self.kernel else { return };
        if !opens || kernel.connections.contains(&ends) {
            kernel.coalescer.push(&mut self.slab.bytes, span);
            return;
        }
        let opening = self.slab.bytes[span.start..span.end].to_vec();
        self.kernel_opening(now, peer, ends, opening);
    }

    /// Hand the segments of the present batch to the kernel.
    pub fn feed_kernel(&mut self, now: Instant) {
        let Some(kernel) = self.kernel.as_mut().filter(|kernel| !kernel.coalescer.is_empty()) else { return };
        let KernelStack { kernel: Kernel { device, .. }, coalescer, connections, .. } = &mut **kernel;
        let mut dropped = 0;
        coalescer.drain(&mut self.slab.bytes, |header, slab, pieces| {
            note_inward(connections, now, slab, pieces);
            if device.write(header, slab, pieces).is_err() {
                dropped += pieces.len() as u64;
            }
        });
        self.totals.dropped_packets += dropped;
    }

    /// Hand one packet to the kernel.
    fn inject(&mut self, now: Instant, packet: &[u8]) {
        if self.kernel.as_mut().is_some_and(|kernel| kernel.inject(now, packet).is_err()) {
            self.totals.dropped_packets += 1;
        }
    }

    /// Reset a connection on both sides.
    fn kernel_reset(&mut self, now: Instant, ends: &Ends) {
        let peer = self.peers.owner(&ends.remote.0);
        let Some(reset) = self.kernel.as_mut().and_then(|kernel| kernel.connections.take(ends)) else { return };
        let turned = Ends { local: ends.remote, remote: ends.local };
        let acknowledged = reset.outward.last().copied().unwrap_or(0);
        for number in &reset.inward {
            self.inject(now, &offload::reset(&turned, *number, acknowledged));
        }
        let acknowledged = reset.inward.last().copied().unwrap_or(0);
        for number in reset.outward.iter().filter(|_| peer.is_some()) {
            self.send_inner(now, peer.unwrap_or_default(), &offload::reset(ends, *number, acknowledged));
        }
    }

    /// Reset every connection to an address, on both sides.
    pub fn kernel_reset_to(&mut self, now: Instant, address: Ipv6Addr) {
        let peer = self.peers.owner(&address);
        let Some(kernel) = &mut self.kernel else { return };
        if let Some(peer) = peer {
            kernel.held.forget(peer);
        }
        for ends in kernel.connections.to(address) {
            self.kernel_reset(now, &ends);
        }
        self.fail_dials(address);
        self.forget_waiting(address);
    }

    /// The way to an address works again: what was lost is sent at once, not when the kernel would try again.
    pub fn nudge(&mut self, now: Instant, address: Ipv6Addr) {
        let something_waits = self.nudge_once(now, address);
        if let Some(kernel) = self.kernel.as_mut().filter(|_| something_waits) {
            kernel.nudged.retain(|(other, _)| *other != address);
            kernel.nudged.push((address, NUDGED_AGAIN));
        }
    }

    /// Says whether something waits for an answer from there.
    fn nudge_once(&mut self, now: Instant, address: Ipv6Addr) -> bool {
        let Some(kernel) = &self.kernel else { return false };
        let unanswered = kernel.connections.unanswered(address);
        for (ends, number) in &unanswered {
            kernel.hasten(ends, *number, NUDGES);
        }
        let probes = kernel.connections.probes(address);
        let something_waits = !unanswered.is_empty() || !probes.is_empty();
        let Some(peer) = self.peers.owner(&address) else { return something_waits };
        for mut packet in probes {
            self.send_segment(now, peer, &Header::default(), &mut packet);
        }
        something_waits
    }

    /// End what has waited too long.
    pub fn tick_kernel(&mut self, now: Instant) {
        let mut again = Vec::new();
        if let Some(kernel) = &mut self.kernel {
            kernel.connections.tick(now);
            for (address, left) in std::mem::take(&mut kernel.nudged) {
                if left > 1 {
                    kernel.nudged.push((address, left - 1));
                }
                again.push(address);
            }
        }
        for address in again {
            self.nudge_once(now, address);
        }
        self.tick_orphans(now);
        self.tick_dials(now);
        self.tick_listeners(now);
    }
}
