//! The receiving side of a connection: putting segments in order, the window, and what to acknowledge.

use std::time::{Duration, Instant};

use super::chunks::Chunks;
use super::ranges::Ranges;
use super::segment::{Options, MAX_BLOCKS};
use super::sender::FIRST;

/// The window offered first. It grows while the application keeps up.
const FIRST_WINDOW: usize = 512 << 10;
/// The window grows while half of it is read in less than this: enough for 250 ms there and back.
const FAST_READ: Duration = Duration::from_millis(250);
/// Gaps that are remembered; a packet that would make one more is dropped. A full queue lets every other packet pass.
const MAX_GAPS: usize = 16_384;
/// A lone segment is acknowledged after this long, in case data goes back that can carry the acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Acknowledgements written for one batch of packets, to name everything that arrived out of order.
const MAX_ACKNOWLEDGEMENTS: usize = 16;

/// The bytes of one direction on their way from the peer.
pub struct Receiver {
    data: Chunks,
    /// The first position not read by the application, and the first that has not arrived.
    read: u64,
    next: u64,
    beyond: Ranges,
    /// Where the stream ends.
    end: Option<u64>,
    /// The window to offer, the most it may grow to, and the end of what was offered.
    window: usize,
    max_window: usize,
    offered: u64,
    scale: u8,
    /// The window grows when reading passes here soon after it was marked.
    marked: (u64, Option<Instant>),
    /// What arrived since the last acknowledgement.
    unacknowledged: usize,
    urgent: bool,
    acknowledge_at: Option<Instant>,
    /// Ranges that changed since the last acknowledgement, and those that the last ones named; newest last.
    changed: Vec<(u64, u64)>,
    named: Vec<(u64, u64)>,
    duplicate: Option<(u64, u64)>,
    fresh: Vec<(u64, u64)>,
}

impl Receiver {
    pub fn new(max_window: usize) -> Self {
        let bits = usize::BITS - (max_window >> 16).leading_zeros();
        Self {
            data: Chunks::default(),
            read: FIRST,
            next: FIRST,
            beyond: Ranges::default(),
            end: None,
            window: max_window.min(FIRST_WINDOW),
            max_window,
            offered: FIRST,
            scale: bits as u8,
            marked: (FIRST, None),
            unacknowledged: 0,
            urgent: false,
            acknowledge_at: None,
            changed: Vec::new(),
            named: Vec::new(),
            duplicate: None,
            fresh: Vec::new(),
        }
    }

    /// The shift of our windows; a peer that does not know scaling gets none.
    pub fn scale(&self) -> u8 {
        self.scale
    }

    pub fn set_unscaled(&mut self) {
        self.scale = 0;
        self.max_window = self.max_window.min(usize::from(u16::MAX));
        self.window = self.window.min(self.max_window);
    }

    /// The first position that has not arrived.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Whether a segment has a part in the window (RFC 9293 §3.10.7.4).
    pub fn acceptable(&self, start: u64, length: u64) -> bool {
        let end = self.offered.max(self.next);
        match (length, end - self.next) {
            (0, 0) => start == self.next,
            (0, _) => self.next <= start && start <= end,
            _ => start <= end && start + length > self.next,
        }
    }

    /// Whether bytes wait for the application.
    pub fn readable(&self) -> bool {
        self.read < self.data_end()
    }

    fn data_end(&self) -> u64 {
        self.next.min(self.end.unwrap_or(u64::MAX))
    }

    /// Whether the peer's stream has arrived to its end.
    pub fn ended(&self) -> bool {
        self.end.is_some_and(|end| self.next > end)
    }

    /// Take in what a segment carries, and whether it ends the stream.
    pub fn receive(&mut self, now: Instant, start: u64, payload: &[u8], last: bool) {
        let end = start + payload.len() as u64;
        if last && self.end.is_none() {
            self.end = Some(end);
            self.urgent = true;
        }
        if start == self.next && self.beyond.is_empty() && end <= self.offered && !self.ended() {
            self.data.write(start, payload);
            self.next = end;
            self.unacknowledged += payload.len();
        } else if !payload.is_empty() {
            self.receive_piece(start, end, payload);
        }
        if self.end == Some(self.next) {
            self.next += 1;
            self.urgent = true;
        }
        if self.unacknowledged > 0 || self.urgent {
            self.acknowledge_at.get_or_insert(now + ACK_DELAY);
        }
    }

    /// A segment that is not simply the next.
    fn receive_piece(&mut self, start: u64, end: u64, payload: &[u8]) {
        self.urgent = true;
        let (from, to) = (start.max(self.next), end.min(self.offered).min(self.end.unwrap_or(u64::MAX)));
        if start < self.next || from >= to {
            let known = (start, end.min(self.next));
            self.duplicate = (known.0 < known.1).then_some(known).or(self.duplicate);
        }
        if from >= to || (from > self.next && self.beyond.len() >= MAX_GAPS) {
            return;
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let merged = self.beyond.insert(from, to, &mut fresh);
        if fresh.is_empty() {
            self.duplicate = Some((from, to));
        }
        for (left, right) in fresh.iter().copied() {
            self.data.write(left, &payload[(left - start) as usize..(right - start) as usize]);
            self.unacknowledged += (right - left) as usize;
        }
        self.fresh = fresh;
        if merged.0 <= self.next {
            self.next = merged.1;
            self.beyond.remove_before(self.next);
        } else {
            self.changed.retain(|known| known.0 > merged.1 || known.1 < merged.0);
            self.changed.push(merged);
        }
    }

    /// Hand bytes to `take`, which says how many it took.
    pub fn take<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        let end = self.data_end();
        let bytes = self.data.read(self.read, end);
        let length = bytes.len();
        let (count, result) = take(bytes);
        self.read += count.min(length) as u64;
        self.data.release(self.read, self.read == end && self.beyond.is_empty());
        result
    }

    /// By how much the window should grow: the application reads it empty faster than a round trip could fill it.
    pub fn wants_growth(&mut self, now: Instant) -> usize {
        let (position, at) = self.marked;
        if self.read < position && at.is_some() {
            return 0;
        }
        let fast = at.is_some_and(|at| now.saturating_duration_since(at) < FAST_READ);
        let keeps_up = self.data_end() - self.read <= (self.window / 2) as u64;
        self.marked = (self.read + (self.window / 2) as u64, Some(now));
        if fast && keeps_up {
            self.window.min(self.max_window - self.window)
        } else {
            0
        }
    }

    /// Let the window grow by so much.
    pub fn grow(&mut self, bytes: usize) {
        self.window += bytes;
        self.marked.0 = self.read + (self.window / 2) as u64;
    }

    /// How much the window has grown.
    pub fn grown(&self) -> usize {
        self.window.saturating_sub(self.max_window.min(FIRST_WINDOW))
    }

    /// After a while without data: hold no memory, and start anew with a small window.
    pub fn shrink(&mut self) {
        self.data.shrink();
        (self.changed, self.named, self.fresh) = (Vec::new(), Vec::new(), Vec::new());
        self.window = self.max_window.min(FIRST_WINDOW);
        self.marked = (self.read, None);
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.data.held()
    }

    /// The window field of the next segment, which is thereby promised.
    pub fn offer(&mut self) -> u16 {
        let wanted = (self.read + self.window as u64).max(self.offered);
        let field = (wanted.saturating_sub(self.next) >> self.scale).min(u64::from(u16::MAX));
        self.offered = self.offered.max(self.next + (field << self.scale));
        field as u16
    }

    /// An opening segment offers what fits in its field without scaling.
    pub fn offer_unscaled(&mut self) -> u16 {
        let field = self.window.min(usize::from(u16::MAX));
        self.offered = self.next + field as u64;
        field as u16
    }

    /// Acknowledge even if nothing new came.
    pub fn acknowledge_soon(&mut self) {
        self.urgent = true;
    }

    /// When an acknowledgement leaves that no data carries.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.acknowledge_at
    }

    /// Whether an acknowledgement should leave now, though no data does.
    pub fn must_acknowledge(&self, now: Instant, max_segment: usize) -> bool {
        let wider = (self.read + self.window as u64).saturating_sub(self.offered);
        let left = self.offered.saturating_sub(self.next);
        let opens = wider >= (self.window / 4) as u64 || (left < max_segment as u64 && wider >= max_segment as u64);
        self.urgent
            || (opens && self.next > FIRST)
            || self.unacknowledged >= 2 * max_segment
            || self.acknowledge_at.is_some_and(|at| at <= now)
    }

    /// Whether an acknowledgement has more to say than data can carry.
    pub fn out_of_order(&self) -> bool {
        !self.beyond.is_empty() || self.duplicate.is_some()
    }

    /// What the acknowledgements that leave now say of segments out of order: one set of options for each.
    /// `base` is the sequence number of position 0.
    pub fn acknowledgements(&mut self, base: u32) -> Vec<Options> {
        let duplicate = self.duplicate.take();
        // The newest first (RFC 2018 §4), as they are by now; then again what was named before, in case that was lost.
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        let changed = self.changed.len();
        for (start, end) in self.changed.drain(..).rev().chain(std::mem::take(&mut self.named)) {
            if let Some(range) = self.beyond.around(end - 1).filter(|_| end > self.next && start < end) {
                if !blocks.contains(&range) {
                    blocks.push(range);
                }
            }
        }
        if blocks.is_empty() {
            blocks.extend(self.beyond.first());
        }
        self.named = blocks.iter().copied().take(2 * MAX_BLOCKS).collect();
        let must = changed.clamp(MAX_BLOCKS - usize::from(duplicate.is_some()), MAX_ACKNOWLEDGEMENTS * MAX_BLOCKS);
        blocks.truncate(must);
        let all: Vec<(u64, u64)> = duplicate.into_iter().chain(blocks).collect();
        let wire = |(start, end): (u64, u64)| Some((base.wrapping_add(start as u32), base.wrapping_add(end as u32)));
        let options = |blocks: &[(u64, u64)]| {
            let mut options = Options::default();
            options.blocks.iter_mut().zip(blocks).for_each(|(room, block)| *room = wire(*block));
            options
        };
        // Older news leaves first, so that the newest is what the peer hears last.
        let mut all: Vec<Options> = all.chunks(MAX_BLOCKS).map(options).collect();
        all.reverse();
        all
    }

    /// Note that everything that arrived was acknowledged.
    pub fn acknowledged(&mut self) {
        (self.unacknowledged, self.urgent, self.acknowledge_at) = (0, false, None);
    }
}
