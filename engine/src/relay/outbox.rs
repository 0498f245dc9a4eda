//! What waits to be written to one connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::websocket;
use crate::wire::derp::{self, Frame, FrameType};
use crate::wire::disco;
use crate::wire::keys::{Key, KEY_LEN};

/// Packets in either queue. Disco has its own, so that a flood of data cannot hide the way to a better path.
const QUEUE_LEN: usize = 512;
/// Packets may be 64 KiB long: a queue holds no more bytes than this either.
const QUEUE_BYTES: usize = 2 << 20;
/// Bytes that are framed and ready for the socket; what comes on top of them is queued and can still be dropped.
const READY_BYTES: usize = 256 << 10;
/// Short answers are never dropped, so whoever makes us write more than this without reading it is cut off.
const MAX_READY_BYTES: usize = READY_BYTES + (1 << 20);
/// From here on senders should wait a moment.
const CONGESTED_PACKETS: usize = QUEUE_LEN / 2;
const CONGESTED_BYTES: usize = QUEUE_BYTES / 2;

/// What became of the packets that were put into an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Older packets dropped to make room.
    pub dropped_head: usize,
    /// The packet itself was dropped.
    pub dropped_tail: usize,
}

struct Queued {
    from: Key,
    packet: Box<[u8]>,
    since: Instant,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Queued>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, now: Instant, from: &Key, packet: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        while self.packets.len() >= QUEUE_LEN || self.bytes + packet.len() > QUEUE_BYTES {
            // Old news is worth less than new.
            if self.pop().is_none() {
                return Outcome { dropped_tail: 1, ..outcome };
            }
            outcome.dropped_head += 1;
        }
        self.bytes += packet.len();
        self.packets.push_back(Queued { from: *from, packet: packet.into(), since: now });
        outcome
    }

    fn pop(&mut self) -> Option<Queued> {
        let popped = self.packets.pop_front()?;
        self.bytes -= popped.packet.len();
        Some(popped)
    }

    fn congested(&self) -> bool {
        self.packets.len() >= CONGESTED_PACKETS || self.bytes >= CONGESTED_BYTES
    }
}

/// The writing side of one connection. Holds no memory while there is nothing to write.
#[derive(Default)]
pub struct Outbox {
    websocket: bool,
    ready: Vec<u8>,
    written: usize,
    data: Queue,
    disco: Queue,
    pong_waiting: bool,
}

impl Outbox {
    /// Make an empty outbox.
    pub fn new(websocket: bool) -> Self {
        Self { websocket, ..Self::default() }
    }

    /// Put a frame that must not be dropped.
    pub fn put_frame(&mut self, frame: &Frame<'_>) {
        let start = self.ready.len();
        derp::encode(&mut self.ready, frame);
        self.wrap(start);
    }

    /// Put a frame that is encoded already.
    pub fn put_encoded(&mut self, frame: &[u8]) {
        let start = self.ready.len();
        self.ready.extend_from_slice(frame);
        self.wrap(start);
    }

    /// Put the answer to a ping, unless one waits already; says whether it was put.
    pub fn put_pong(&mut self, payload: [u8; 8]) -> bool {
        if self.pong_waiting {
            return false;
        }
        self.put_frame(&Frame::Pong(payload));
        self.pong_waiting = true;
        true
    }

    /// Put the answer to a WebSocket ping.
    pub fn put_websocket_pong(&mut self, payload: &[u8]) {
        websocket::put_pong(&mut self.ready, payload);
    }

    /// Put the end of a WebSocket connection; nothing may follow.
    pub fn put_websocket_close(&mut self, code: websocket::CloseCode) {
        websocket::put_close(&mut self.ready, code);
    }

    /// Put a packet for this client; queues and drops as need be.
    pub fn put_packet(&mut self, now: Instant, from: &Key, packet: &[u8]) -> Outcome {
        let queues_empty = self.data.packets.is_empty() && self.disco.packets.is_empty();
        if queues_empty && self.waiting() < READY_BYTES {
            self.frame_packet(from, packet);
            return Outcome::default();
        }
        let queue = if disco::is_disco(packet) { &mut self.disco } else { &mut self.data };
        queue.push(now, from, packet)
    }

    /// Say what to write next; empty when all is written.
    pub fn unwritten(&self) -> &[u8] {
        &self.ready[self.written..]
    }

    /// Note that this much was written, and frame what was queued meanwhile; `waited` hears how long each was.
    pub fn advance(&mut self, now: Instant, count: usize, mut waited: impl FnMut(Duration)) {
        self.written += count;
        if self.written == self.ready.len() {
            self.ready.clear();
            self.written = 0;
            self.pong_waiting = false;
        } else if self.written >= READY_BYTES {
            self.ready.drain(..self.written);
            self.written = 0;
        }
        while self.waiting() < READY_BYTES {
            // In turn, so that neither queue starves the other.
            let disco = self.disco.pop();
            let data = self.data.pop();
            if disco.is_none() && data.is_none() {
                break;
            }
            for queued in [disco, data].into_iter().flatten() {
                waited(now.saturating_duration_since(queued.since));
                self.frame_packet(&queued.from, &queued.packet);
            }
        }
    }

    /// Say whether senders should wait a moment.
    pub fn congested(&self) -> bool {
        self.data.congested() || self.disco.congested()
    }

    /// Say whether the client makes us write without reading: it is to be cut off.
    pub fn overflowing(&self) -> bool {
        self.waiting() > MAX_READY_BYTES
    }

    /// Count the packets that are lost when the connection ends now: disco, and others.
    pub fn queued_packets(&self) -> (usize, usize) {
        (self.disco.packets.len(), self.data.packets.len())
    }

    /// Give back memory that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.ready.is_empty() {
            self.ready = Vec::new();
            self.data.packets.shrink_to_fit();
            self.disco.packets.shrink_to_fit();
        }
    }

    fn waiting(&self) -> usize {
        self.ready.len() - self.written
    }

    fn frame_packet(&mut self, from: &Key, packet: &[u8]) {
        let length = KEY_LEN + packet.len();
        if self.websocket {
            websocket::put_message_header(&mut self.ready, derp::HEADER_LEN + length);
        }
        self.ready.extend_from_slice(&derp::header(FrameType::RecvPacket, length));
        self.ready.extend_from_slice(from);
        self.ready.extend_from_slice(packet);
    }

    /// Make the frame at the end of `ready` a WebSocket message where that is what the connection speaks.
    fn wrap(&mut self, start: usize) {
        if self.websocket {
            let frame = self.ready.split_off(start);
            websocket::put_message_header(&mut self.ready, frame.len());
            self.ready.extend_from_slice(&frame);
        }
    }
}
