//! How much a TCP connection may have in flight.
//!
//! smoltcp's own congestion control adds one segment an acknowledgement, while we acknowledge once a batch: it would
//! never leave slow start. So it is off, and this window limits instead what enters the send buffer; it counts bytes.

/// What a connection may send before the first acknowledgement; also what a loss leaves at least.
const FLOOR: usize = 64 << 10;
/// After a loss this part of the window stays (RFC 9438 §4.6).
const KEEP_TENTHS: usize = 7;
/// In congestion avoidance the window grows by this many segments a round trip.
const SEGMENTS_PER_ROUND: usize = 4;

/// The congestion window of one connection, in bytes.
#[derive(Debug)]
pub struct Window {
    size: usize,
    threshold: usize,
    /// The highest sequence number sent so far; a segment below it is a retransmission.
    sent: Option<u32>,
    /// Until the peer has acknowledged this, further losses belong to the one that was counted.
    recovering_until: Option<u32>,
    unacknowledged: u32,
}

impl Window {
    pub fn new() -> Self {
        Self { size: FLOOR, threshold: usize::MAX, sent: None, recovering_until: None, unacknowledged: 0 }
    }

    /// How many bytes may be in the send buffer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Note that the peer acknowledged `bytes` of the `in_buffer` bytes that were in the send buffer.
    pub fn acknowledged(&mut self, bytes: usize, in_buffer: usize, segment: usize, limit: usize) {
        self.unacknowledged = self.unacknowledged.wrapping_add(bytes as u32);
        if let Some(end) = self.recovering_until {
            if (end.wrapping_sub(self.unacknowledged) as i32) > 0 {
                return;
            }
            self.recovering_until = None;
        }
        if in_buffer + segment < self.size {
            return; // the application, not the window, was the limit
        }
        let growth = if self.size < self.threshold { bytes } else { SEGMENTS_PER_ROUND * segment * bytes / self.size };
        self.size = (self.size + growth).min(limit.max(FLOOR));
    }

    /// Note that data went out; says whether it was a retransmission.
    pub fn sent(&mut self, sequence: u32, length: u32) -> bool {
        let end = sequence.wrapping_add(length);
        let Some(highest) = self.sent else {
            self.sent = Some(end);
            self.unacknowledged = sequence;
            return false;
        };
        let repeated = (sequence.wrapping_sub(highest) as i32) < 0;
        if (end.wrapping_sub(highest) as i32) > 0 {
            self.sent = Some(end);
        }
        if repeated && self.recovering_until.is_none() {
            self.size = (self.size * KEEP_TENTHS / 10).max(FLOOR);
            self.threshold = self.size;
            self.recovering_until = self.sent;
        }
        repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: usize = 1220;

    #[test]
    fn doubles_each_round_until_a_loss_then_creeps() {
        let mut window = Window::new();
        assert!(!window.sent(1000, 64 << 10));
        window.acknowledged(64 << 10, 64 << 10, SEGMENT, 4 << 20);
        assert_eq!(window.size(), 128 << 10);
        assert!(!window.sent(1000 + (64 << 10), 128 << 10));
        assert!(window.sent(1000 + (64 << 10), 1220), "a retransmission");
        let after = (128 << 10) * 7 / 10;
        assert_eq!(window.size(), after);
        assert!(window.sent(1000 + (64 << 10) + 1220, 1220), "the same loss");
        assert_eq!(window.size(), after, "counts once");
        window.acknowledged(128 << 10, 128 << 10, SEGMENT, 4 << 20);
        let grown = window.size() - after;
        assert!(grown > 0 && grown <= 8 * SEGMENT, "grew by {grown}");
    }

    #[test]
    fn an_application_that_sends_little_does_not_open_the_window() {
        let mut window = Window::new();
        window.sent(0, 100);
        window.acknowledged(100, 100, SEGMENT, 4 << 20);
        assert_eq!(window.size(), FLOOR);
    }

    #[test]
    fn never_passes_the_limit() {
        let mut window = Window::new();
        window.sent(u32::MAX - 10, 64 << 10);
        for _ in 0..20 {
            let size = window.size();
            window.acknowledged(size, size, SEGMENT, 512 << 10);
        }
        assert_eq!(window.size(), 512 << 10);
    }
}
