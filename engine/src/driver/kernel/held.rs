//! Segments that wait because the way to their peer is full: one queue a peer, so that a slow peer slows nobody else.

use std::collections::{HashMap, VecDeque};

use crate::driver::peers::PeerId;
use crate::offload::Header;

/// Bytes that wait for one peer; more is lost, by which the kernel's TCP learns how fast the way is.
const LIMIT: usize = 1 << 20;
/// From here on it is told so without a loss, where both ends understand that (RFC 3168).
const MARK_FROM: usize = LIMIT / 4;

/// A segment as the kernel handed it over.
type Frame = (Header, Vec<u8>);

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

/// All segments that wait.
#[derive(Debug, Default)]
pub struct Held {
    queues: HashMap<PeerId, Queue>,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether something waits for a peer, so that what comes later has to wait too.
    pub fn holds(&self, peer: PeerId) -> bool {
        self.queues.contains_key(&peer)
    }

    pub fn peers(&self) -> Vec<PeerId> {
        self.queues.keys().copied().collect()
    }

    /// Keep a segment; `false` when there is no room for it.
    pub fn push(&mut self, peer: PeerId, header: Header, packet: &[u8]) -> bool {
        let queue = self.queues.entry(peer).or_default();
        if queue.bytes + packet.len() > LIMIT {
            return false;
        }
        let mut packet = packet.to_vec();
        if queue.bytes >= MARK_FROM {
            mark(&mut packet);
        }
        queue.bytes += packet.len();
        queue.frames.push_back((header, packet));
        true
    }

    /// Take the segment that has waited longest for a peer.
    pub fn pop(&mut self, peer: PeerId) -> Option<Frame> {
        let queue = self.queues.get_mut(&peer)?;
        let frame = queue.frames.pop_front();
        queue.bytes -= frame.as_ref().map_or(0, |(_, packet)| packet.len());
        if queue.frames.is_empty() {
            self.queues.remove(&peer);
        }
        frame
    }

    /// Forget what waits for a peer.
    pub fn forget(&mut self, peer: PeerId) {
        self.queues.remove(&peer);
    }
}

/// Say "congestion experienced" in an IPv6 packet whose sender and receiver understand it.
fn mark(packet: &mut [u8]) {
    const ECN: u8 = 0x30;
    if packet.len() > 1 && packet[1] & ECN != 0 {
        packet[1] |= ECN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_in_order_bounded_and_no_other_peers() {
        let mut held = Held::default();
        let mut kept = 0;
        while held.push(1, Header::default(), &[kept as u8; 40_000]) {
            kept += 1;
        }
        assert_eq!(kept, LIMIT / 40_000);
        assert!(held.push(2, Header::default(), b"mine"), "another peer has its own room");
        assert_eq!(held.pop(2).map(|(_, packet)| packet), Some(b"mine".to_vec()));
        assert!(held.holds(1) && !held.holds(2));
        for number in 0..kept {
            assert_eq!(held.pop(1).map(|(_, packet)| packet[0]), Some(number as u8));
        }
        assert!(held.is_empty() && held.pop(1).is_none());
        held.push(3, Header::default(), b"x");
        held.forget(3);
        assert!(held.is_empty());
    }

    #[test]
    fn a_long_queue_marks_what_may_be_marked() {
        for (before, after) in [(0x00, 0x00), (0x10, 0x30), (0x20, 0x30), (0x2f, 0x3f)] {
            let mut held = Held::default();
            let packet = [[0x60, before].as_slice(), &[0; 60_000]].concat();
            for _ in 0..10 {
                held.push(1, Header::default(), &packet);
            }
            let marks: Vec<u8> = (0..10).filter_map(|_| held.pop(1).map(|(_, packet)| packet[1])).collect();
            assert_eq!((marks[0], marks[9]), (before, after));
        }
    }
}
