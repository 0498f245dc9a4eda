//! What smoltcp's sender lacks: selective acknowledgements, and losses found by time (RFC 2018, RFC 8985).
//!
//! A copy of every data segment in flight is kept. Acknowledgements are read before smoltcp gets them; a segment that
//! later ones overtook is sent again from its copy at once, and a lost tail is probed. smoltcp itself only sees the
//! acknowledged sequence move, and its timeout remains as the last resort.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::device::Batch;
use super::packet::{self, Tcp};
use super::window::{Sample, Window};

/// A segment is lost when this many later ones arrived, unless the path is known to reorder.
const OVERTAKEN_BY: usize = 3;
/// How long an overtaken segment may be late: a part of the round trip, but at least this.
const MIN_LATE: Duration = Duration::from_millis(1);
/// A tail without an answer is probed after two round trips and the time that an acknowledgement may be delayed.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// A segment sent again and not acknowledged within this many round trips is sent once more.
const RETRY_ROUND_TRIPS: u32 = 3;
/// The pause between probes doubles up to this: a connection goes on soon after a long outage.
const LAST_PROBE_PAUSE: Duration = Duration::from_secs(5);
/// An empty copy buffer larger than this is given back.
const KEEP_CAPACITY: usize = 256 << 10;
/// Retransmissions written in one turn.
const BURST: usize = 64;

/// A data segment in flight.
#[derive(Debug)]
struct Segment {
    start: u32,
    end: u32,
    /// Length of the whole packet in the buffer of copies.
    length: usize,
    sent_at: Instant,
    again: bool,
    arrived: bool,
    lost: bool,
    /// What had been delivered, and when, when it was sent: the base of a rate.
    delivered: u64,
    delivered_at: Instant,
    flight_began_at: Instant,
    idle: bool,
}

/// The newest proof of delivery.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sent_at: Instant,
    end: u32,
    rtt: Duration,
}

/// The sender's side of one connection.
#[derive(Debug)]
pub struct Recovery {
    pub window: Window,
    segments: VecDeque<Segment>,
    copies: VecDeque<u8>,
    /// The highest sequence number sent.
    highest: Option<u32>,
    arrived_bytes: usize,
    delivered: u64,
    delivered_at: Option<Instant>,
    flight_began_at: Option<Instant>,
    round_ends_at: u64,
    newest: Option<Newest>,
    smooth_rtt: Option<Duration>,
    reorders: bool,
    late_at: Option<Instant>,
    probe_at: Option<Instant>,
    /// Probes since anything was heard.
    probes: u32,
    to_repeat: VecDeque<u32>,
    last_plain: Option<(u32, u32, u16)>,
    /// What our last segment acknowledged, and the window it offered: a segment sent again says the same.
    latest: Option<(u32, u16)>,
    /// Something arrived since losses were last looked for.
    unchecked: bool,
    idle: bool,
}

/// Whether `left` comes before `right` in the circle of sequence numbers.
fn before(left: u32, right: u32) -> bool {
    (left.wrapping_sub(right) as i32) < 0
}

impl Recovery {
    pub fn new() -> Self {
        Self {
            window: Window::new(),
            segments: VecDeque::new(),
            copies: VecDeque::new(),
            highest: None,
            arrived_bytes: 0,
            delivered: 0,
            delivered_at: None,
            flight_began_at: None,
            round_ends_at: 0,
            newest: None,
            smooth_rtt: None,
            reorders: false,
            late_at: None,
            probe_at: None,
            probes: 0,
            to_repeat: VecDeque::new(),
            last_plain: None,
            latest: None,
            unchecked: false,
            idle: true,
        }
    }

    /// How many bytes the send buffer may hold: those that arrived out of order are not in flight.
    pub fn room(&self) -> usize {
        self.window.size() + self.arrived_bytes
    }

    /// The path to the peer is another.
    pub fn forget_path(&mut self) {
        self.window.forget_path();
        (self.smooth_rtt, self.newest) = (None, None);
    }

    /// Note whether the application, not the window, limits what is sent.
    pub fn set_idle(&mut self, idle: bool) {
        self.idle = idle;
    }

    /// Look at a segment that smoltcp sends; `false` when the peer has it already.
    pub fn sent(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let Some(tcp) = packet::tcp(bytes) else { return true };
        self.latest = Some((tcp.acknowledgement, tcp.window));
        if tcp.data == 0 {
            return true;
        }
        let end = tcp.sequence.wrapping_add(tcp.data);
        if self.highest.is_some_and(|highest| before(tcp.sequence, highest)) {
            return self.sent_again(now, tcp.sequence, end);
        }
        self.highest = Some(end);
        if self.segments.is_empty() {
            (self.flight_began_at, self.delivered_at) = (Some(now), Some(now));
        }
        self.copies.extend(bytes);
        self.segments.push_back(Segment {
            start: tcp.sequence,
            end,
            length: bytes.len(),
            sent_at: now,
            again: false,
            arrived: false,
            lost: false,
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            flight_began_at: self.flight_began_at.unwrap_or(now),
            idle: self.idle,
        });
        self.probe_at.get_or_insert(now + self.probe_after());
        true
    }

    /// smoltcp's own timeout ran out: it sends everything again, of which the peer may have most.
    fn sent_again(&mut self, now: Instant, start: u32, end: u32) -> bool {
        let mut covered = false;
        let mut missing = false;
        for segment in
            self.segments.iter_mut().filter(|segment| before(segment.start, end) && before(start, segment.end))
        {
            covered = true;
            if !segment.arrived {
                missing = true;
                (segment.sent_at, segment.again) = (now, true);
            }
        }
        if self.segments.front().is_some_and(|first| first.start == start) {
            self.window.timed_out();
        }
        missing || !covered
    }

    fn probe_after(&self) -> Duration {
        self.smooth_rtt.map_or(Duration::from_millis(500), |rtt| rtt * 2) + ACK_DELAY
    }

    /// Read an acknowledgement; `false` when smoltcp need not see it: it is the same as the one before.
    pub fn acknowledged(&mut self, now: Instant, tcp: &Tcp, limit: usize) -> bool {
        let (mut newly, mut sample, known) = (0, None, self.newest);
        let highest = self.highest.unwrap_or(tcp.acknowledgement);
        if !before(highest, tcp.acknowledgement) {
            while self.segments.front().is_some_and(|first| !before(tcp.acknowledgement, first.end)) {
                let Some(segment) = self.segments.pop_front() else { break };
                self.copies.drain(..segment.length);
                if segment.arrived {
                    self.arrived_bytes -= segment.size();
                } else {
                    newly += segment.size();
                    self.arrive(now, &segment, known, &mut sample);
                }
            }
        }
        let mut segments = std::mem::take(&mut self.segments);
        for (left, right) in tcp.arrived.iter().flatten().copied().filter(|(left, right)| before(*left, *right)) {
            // Segments stand in order: the first that may be covered is found by halving.
            let first = segments.partition_point(|segment| before(segment.start, left));
            for segment in segments.range_mut(first..).take_while(|segment| !before(right, segment.end)) {
                if !segment.arrived {
                    segment.arrived = true;
                    self.arrived_bytes += segment.size();
                    newly += segment.size();
                    self.arrive(now, segment, known, &mut sample);
                }
            }
        }
        self.segments = segments;
        if newly > 0 {
            self.progress(now, newly, sample, limit);
        }
        if self.segments.is_empty() {
            (self.late_at, self.probe_at) = (None, None);
            self.to_repeat.clear();
            if self.copies.capacity() > KEEP_CAPACITY {
                self.copies = VecDeque::new();
            }
        }
        let plain = (tcp.data == 0 && tcp.plain).then_some((tcp.sequence, tcp.acknowledgement, tcp.window));
        let same = plain.is_some() && plain == self.last_plain && !self.segments.is_empty();
        self.last_plain = plain;
        !same
    }

    /// A segment has arrived; `known` is the newest that had before this acknowledgement.
    fn arrive(&mut self, now: Instant, segment: &Segment, known: Option<Newest>, sample: &mut Option<Sample>) {
        self.delivered += segment.size() as u64;
        let rtt = now.saturating_duration_since(segment.sent_at);
        if segment.again && self.window.min_rtt().is_some_and(|shortest| rtt < shortest) {
            return; // it is the first copy that arrived, and nothing can be learnt from its time
        }
        // Sent before the newest, never sent again, and yet arrived after it: the path reorders.
        self.reorders |= !segment.again && known.is_some_and(|known| before(segment.end, known.end));
        let newer = |newest: Newest| {
            segment.sent_at > newest.sent_at || (segment.sent_at == newest.sent_at && before(newest.end, segment.end))
        };
        if !self.newest.is_none_or(newer) {
            return;
        }
        self.newest = Some(Newest { sent_at: segment.sent_at, end: segment.end, rtt });
        let sending = segment.sent_at.saturating_duration_since(segment.flight_began_at);
        let interval = now.saturating_duration_since(segment.delivered_at).max(sending);
        self.flight_began_at = Some(segment.sent_at);
        *sample = Some(Sample {
            newly: 0,
            delivered: self.delivered - segment.delivered,
            interval,
            rtt: (!segment.again).then_some(rtt),
            round: segment.delivered >= self.round_ends_at,
            idle: segment.idle,
        });
    }

    fn progress(&mut self, now: Instant, newly: usize, sample: Option<Sample>, limit: usize) {
        self.delivered_at = Some(now);
        let idle = Sample { newly, delivered: 0, interval: Duration::ZERO, rtt: None, round: false, idle: self.idle };
        let sample = sample.map_or(idle, |sample| Sample { newly, ..sample });
        if sample.round {
            self.round_ends_at = self.delivered;
        }
        if let Some(rtt) = sample.rtt {
            self.smooth_rtt = Some(self.smooth_rtt.map_or(rtt, |smooth| (smooth * 7 + rtt) / 8));
        }
        self.unchecked = true;
        self.window.acknowledged(now, &sample, limit);
        self.probes = 0;
        self.probe_at = Some(now + self.probe_after());
    }

    /// Mark what later segments overtook; what may still be merely late is looked at again at `late_at`.
    fn find_lost(&mut self, now: Instant) {
        self.late_at = None;
        let Some(newest) = self.newest else { return };
        if self.arrived_bytes == 0 && !self.segments.front().is_some_and(|first| first.again) {
            return;
        }
        let overtaken = self.segments.iter().filter(|segment| segment.arrived).count() >= OVERTAKEN_BY;
        let patience = if overtaken && !self.reorders {
            Duration::ZERO
        } else {
            MIN_LATE.max(self.window.min_rtt().unwrap_or_default() / 4)
        };
        let round_trip = self.smooth_rtt.unwrap_or(newest.rtt);
        for segment in self.segments.iter_mut().filter(|segment| !segment.arrived && !segment.lost) {
            if segment.sent_at > newest.sent_at
                || (segment.sent_at == newest.sent_at && !before(segment.end, newest.end))
            {
                if !segment.again {
                    break; // sent after everything that is known to have arrived
                }
                continue;
            }
            let patience = if segment.again { patience.max(round_trip / 4) } else { patience };
            let due = segment.sent_at + newest.rtt + patience;
            if due <= now || (patience.is_zero() && !segment.again) {
                segment.lost = true;
                self.window.lost(segment.size());
                self.to_repeat.push_back(segment.start);
            } else {
                self.late_at = Some(self.late_at.map_or(due, |at| at.min(due)));
            }
        }
    }

    /// When `repeat` has something to do that no acknowledgement brings.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.late_at, self.probe_at].into_iter().flatten().min()
    }

    /// Write what must be sent again to `out`; says whether more waits.
    pub fn repeat(&mut self, now: Instant, out: &mut Batch) -> bool {
        if std::mem::take(&mut self.unchecked) || self.late_at.is_some_and(|at| at <= now) {
            self.find_lost(now);
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe(now);
        }
        for _ in 0..BURST {
            let Some(start) = self.to_repeat.pop_front() else { return false };
            let index = self.segments.partition_point(|segment| before(segment.start, start));
            self.write(now, index, start, out);
        }
        !self.to_repeat.is_empty()
    }

    /// Nothing was heard for a while: the end of what was sent may be lost, which no later segment would show.
    fn probe(&mut self, now: Instant) {
        let stuck = self.smooth_rtt.unwrap_or(Duration::from_millis(100)) * RETRY_ROUND_TRIPS;
        let first = self.segments.front().filter(|first| now.saturating_duration_since(first.sent_at) >= stuck);
        let last = self.segments.iter().rev().find(|segment| !segment.arrived);
        if let Some(segment) = first.filter(|first| !first.arrived && first.again).or(last) {
            self.to_repeat.push_front(segment.start);
        }
        self.probes = self.probes.saturating_add(1);
        let pause = self.probe_after().saturating_mul(1 << self.probes.min(16)).min(LAST_PROBE_PAUSE);
        self.probe_at = (!self.segments.is_empty()).then_some(now + pause);
    }

    fn write(&mut self, now: Instant, index: usize, start: u32, out: &mut Batch) {
        let offset: usize = self.segments.range(..index.min(self.segments.len())).map(|segment| segment.length).sum();
        let Some(segment) = self.segments.get_mut(index).filter(|segment| segment.start == start) else { return };
        if segment.arrived {
            return;
        }
        (segment.sent_at, segment.again, segment.lost) = (now, true, false);
        (segment.delivered, segment.delivered_at) = (self.delivered, self.delivered_at.unwrap_or(now));
        let room = out.append(segment.length);
        for (byte, copy) in room.iter_mut().zip(self.copies.range(offset..offset + segment.length)) {
            *byte = *copy;
        }
        if let Some((acknowledgement, window)) = self.latest {
            packet::refresh_tcp(room, acknowledgement, window);
        }
    }
}

impl Segment {
    fn size(&self) -> usize {
        self.end.wrapping_sub(self.start) as usize
    }
}
