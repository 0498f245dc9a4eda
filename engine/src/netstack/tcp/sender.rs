//! The sending side of a connection: what waits, what is in flight, and when to send it again.

use std::time::{Duration, Instant};

use super::chunks::Chunks;
use super::congestion::{Congestion, Sample};
use super::flight::Flight;
use super::rtt::RoundTrip;

/// A lone segment may be acknowledged so late.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// The end of what was sent is probed no sooner than this.
const SHORTEST_PROBE: Duration = Duration::from_millis(10);
/// The pause between attempts doubles up to this: a connection goes on soon after an outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After so many attempts the outage is a long one, and this is the pause.
const MANY_ATTEMPTS: u32 = 180;
const LONG_OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// Bytes that wait beyond what may be in flight: as much again, within these bounds.
const LEAST_RESERVE: usize = 64 << 10;
const MOST_RESERVE: usize = 256 << 10;
/// The first byte of data: position 0 is that of the opening itself.
pub const FIRST: u64 = 1;

/// What to put on the wire next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub start: u64,
    /// The end of its data.
    pub end: u64,
    /// It ends the stream.
    pub last: bool,
}

/// The bytes of one direction on their way to the peer.
pub struct Sender {
    pub congestion: Congestion,
    pub round_trip: RoundTrip,
    flight: Flight,
    data: Chunks,
    /// The first position not acknowledged, the next to be sent, and the end of what there is.
    acknowledged: u64,
    next: u64,
    end: u64,
    closed: bool,
    /// The peer takes nothing from here on.
    window_end: u64,
    max_segment: usize,
    /// In flight at most, whatever the path was measured to hold.
    limit: usize,
    /// The timeouts count from here.
    waiting_since: Option<Instant>,
    sent_at: Option<Instant>,
    /// Attempts since anything was acknowledged.
    attempts: u32,
    /// The end of what was sent was probed.
    probed: bool,
    /// Send one segment, whatever the window of the path says.
    forced: bool,
    /// The window of the path was full since the last round trip ended.
    filled: bool,
    /// What was sent up to here says little about the path: the application had nothing more.
    idle_until: u64,
    /// Ask the peer for its window.
    pub asking: bool,
}

impl Sender {
    pub fn new(max_segment: usize) -> Self {
        Self {
            congestion: Congestion::new(),
            round_trip: RoundTrip::default(),
            flight: Flight::default(),
            data: Chunks::default(),
            acknowledged: FIRST,
            next: FIRST,
            end: FIRST,
            closed: false,
            window_end: FIRST,
            max_segment,
            limit: usize::MAX,
            waiting_since: None,
            sent_at: None,
            attempts: 0,
            probed: false,
            forced: false,
            filled: false,
            idle_until: 1,
            asking: false,
        }
    }

    pub fn set_max_segment(&mut self, bytes: usize) {
        self.max_segment = bytes;
    }

    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    pub fn set_window_end(&mut self, position: u64) {
        if position > self.window_end && self.flight.is_empty() {
            self.attempts = 0;
        }
        self.window_end = position; // a peer that takes back what it offered is believed
    }

    /// The position behind everything sent.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The position that an acknowledgement without bytes carries. It is never beyond what the peer offers: there are
    /// peers that took an offer back and do not look at what lies outside of it, acknowledgements included.
    pub fn acceptable(&self) -> u64 {
        self.next.min(self.window_end).max(self.acknowledged)
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The position behind everything that was written.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether nothing follows what is there.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Whether the peer has everything, the end of the stream included.
    pub fn finished(&self) -> bool {
        self.closed && self.acknowledged > self.end
    }

    /// Whether something was said, or is to be said, that the peer has not acknowledged.
    pub fn waits(&self) -> bool {
        self.acknowledged < self.end + u64::from(self.closed)
    }

    /// How many bytes more are taken now.
    pub fn room(&self) -> usize {
        let window = self.congestion.size().min(self.limit);
        let reserve = window.clamp(LEAST_RESERVE, MOST_RESERVE);
        // What the peer's window keeps back would only stand here.
        let offered = self.window_end.saturating_sub(self.acknowledged) as usize;
        let wanted = offered.min(window + self.flight.arrived()) + reserve;
        wanted.saturating_sub((self.end - self.acknowledged) as usize)
    }

    /// Let `fill` write bytes, up to `room` of them; it says how many it wrote.
    pub fn fill<R>(&mut self, room: usize, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let space = self.data.room(self.end);
        let length = space.len().min(room);
        let (count, result) = fill(&mut space[..length]);
        self.end += count.min(length) as u64;
        if self.end == self.acknowledged {
            self.data.release(self.end, true);
        }
        result
    }

    /// Nothing follows what is there.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The data of a piece, in two parts.
    pub fn bytes(&self, piece: Piece) -> [&[u8]; 2] {
        let first = self.data.read(piece.start, piece.end);
        [first, self.data.read(piece.start + first.len() as u64, piece.end)]
    }

    /// Take in an acknowledgement; returns whether it told something new.
    pub fn acknowledge(&mut self, now: Instant, position: u64, blocks: &[(u64, u64)]) -> bool {
        let moved = position > self.acknowledged;
        self.acknowledged = self.acknowledged.max(position);
        let outcome = self.flight.acknowledge(now, self.acknowledged, blocks);
        if moved {
            let end = self.acknowledged.min(self.end);
            self.data.release(end, end == self.end);
        }
        if outcome.newly == 0 {
            return moved;
        }
        let in_flight = self.flight.in_flight();
        let nothing =
            Sample { newly: 0, delivered: 0, interval: Duration::ZERO, rtt: None, round: false, idle: true, in_flight };
        let sample = outcome.sample.unwrap_or(nothing);
        let sample = Sample { newly: outcome.newly, in_flight, idle: sample.idle && !self.filled, ..sample };
        if sample.round {
            self.flight.end_round();
            self.filled = false;
        }
        if let Some(rtt) = sample.rtt {
            self.round_trip.measure(rtt);
        }
        self.congestion.found(outcome.found);
        let lost = self.flight.find_lost(now, self.round_trip.smooth());
        self.congestion.lost(lost);
        self.congestion.acknowledged(now, &sample);
        (self.attempts, self.probed, self.forced) = (0, false, false);
        self.waiting_since = (!self.flight.is_empty() || self.blocked()).then_some(now);
        true
    }

    /// The peer says that a segment came twice.
    pub fn duplicated(&mut self) {
        self.flight.duplicated();
    }

    /// The path to the peer is another: try it at once.
    pub fn path_changed(&mut self, now: Instant) {
        self.congestion.forget_path();
        self.flight.forget_path();
        self.attempts = 0;
        self.forced = !self.flight.is_empty();
        self.waiting_since = self.waiting_since.map(|_| now);
    }

    /// The peer is heard again after a silence: what it did not answer, however often it was tried, is tried at once.
    pub fn way_restored(&mut self, now: Instant) {
        if std::mem::take(&mut self.attempts) > 0 {
            self.expire(now);
        }
    }

    /// Whether the peer's window keeps back what waits.
    fn blocked(&self) -> bool {
        self.next < self.end + u64::from(self.closed) && self.window_end <= self.next
    }

    /// The pause after so many attempts.
    fn pause(&self) -> Duration {
        let timeout = self.round_trip.timeout();
        let longest = if self.attempts < MANY_ATTEMPTS { LONGEST_PAUSE } else { LONG_OUTAGE_PAUSE };
        timeout.saturating_mul(1 << self.attempts.min(16)).min(longest.max(timeout))
    }

    /// When the end of what was sent is probed (RFC 8985 §7).
    fn probe_at(&self) -> Option<Instant> {
        if self.probed || self.attempts > 0 || self.flight.is_empty() || self.flight.repairing() {
            return None;
        }
        let delay = if self.flight.in_flight() <= self.max_segment { ACK_DELAY } else { Duration::ZERO };
        let patience = (self.round_trip.smooth()? * 2 + delay).max(SHORTEST_PROBE);
        Some(self.sent_at.max(self.waiting_since)? + patience)
    }

    /// When all is taken for lost, or the peer is asked for its window.
    fn timeout_at(&self) -> Option<Instant> {
        (!self.flight.is_empty() || self.blocked()).then_some(self.waiting_since? + self.pause())
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.flight.late_at(), self.probe_at(), self.timeout_at()].into_iter().flatten().min()
    }

    /// Do what the clock asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.flight.late_at()) {
            let lost = self.flight.find_lost(now, self.round_trip.smooth());
            self.congestion.lost(lost);
        }
        if due(self.timeout_at()) {
            self.expire(now);
        } else if due(self.probe_at()) {
            (self.probed, self.forced) = (true, true);
        }
    }

    /// Take all for lost, or ask the peer for its window.
    fn expire(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        self.waiting_since = Some(now);
        if self.flight.is_empty() {
            self.asking = true;
            return;
        }
        let lost = self.flight.time_out(now, self.round_trip.smooth());
        self.congestion.lost(lost);
        self.congestion.timed_out();
        self.forced = true;
    }

    /// What to send next, noted as sent; `None` when nothing may leave now.
    pub fn next_piece(&mut self, now: Instant) -> Option<Piece> {
        if self.flight.is_empty() && self.blocked() {
            self.waiting_since.get_or_insert(now);
        }
        if !self.forced && !self.may_leave(now) {
            return None;
        }
        let piece = self.repeated(now).or_else(|| self.fresh(now)).or_else(|| self.probing(now))?;
        self.forced = false;
        self.sent_at = Some(now);
        self.waiting_since.get_or_insert(now);
        self.congestion.sent((piece.end - piece.start) as usize);
        Some(piece)
    }

    /// Whether `next_piece` would have something, as far as that can be said without sending it.
    pub fn wants(&mut self, now: Instant) -> bool {
        (self.forced || self.may_leave(now)) && (self.flight.next_lost().is_some() || self.fresh_length() > 0)
    }

    fn may_leave(&mut self, now: Instant) -> bool {
        let fits = self.fits();
        self.filled |= !fits;
        fits && self.congestion.may_send(now)
    }

    /// Whether the window of the path has room for a segment.
    fn fits(&self) -> bool {
        let in_flight = self.flight.in_flight();
        in_flight == 0 || in_flight + self.max_segment <= self.congestion.size().min(self.limit)
    }

    /// When the pace lets more leave, if it is what keeps it back.
    pub fn paced_until(&mut self, now: Instant) -> Option<Instant> {
        let waits = self.fits() && (self.flight.next_lost().is_some() || self.fresh_length() > 0);
        (waits && !self.congestion.may_send(now)).then(|| self.congestion.send_at(now))
    }

    fn piece(&self, start: u64, end: u64) -> Piece {
        Piece { start, end: end.min(self.end), last: self.closed && end > self.end }
    }

    fn repeated(&mut self, now: Instant) -> Option<Piece> {
        let (start, end) = self.flight.next_lost()?;
        self.flight.lost_sent(now);
        Some(self.piece(start, end))
    }

    /// How much the next new segment takes, the end of the stream included.
    fn fresh_length(&self) -> u64 {
        let all = self.end + u64::from(self.closed);
        let most = self.max_segment as u64;
        let there = (all - self.next).min(most);
        let allowed = self.window_end.saturating_sub(self.next).min(there);
        // A sliver of a window is not worth a segment while acknowledgements may widen it (RFC 9293 §3.8.6.2.1).
        if allowed < there && !self.flight.is_empty() {
            0
        } else {
            allowed
        }
    }

    fn fresh(&mut self, now: Instant) -> Option<Piece> {
        let length = self.fresh_length();
        if length == 0 {
            self.note_idle();
            return None;
        }
        let (start, end) = (self.next, self.next + length);
        if self.flight.is_empty() {
            self.waiting_since = Some(now);
        }
        self.flight.push(now, start, end, self.idle_until > self.flight.delivered());
        self.next = end;
        Some(self.piece(start, end))
    }

    /// The application has nothing more: what is in flight says little about what the path could deliver.
    fn note_idle(&mut self) {
        let (window, in_flight) = (self.congestion.size().min(self.limit), self.flight.in_flight());
        self.congestion.idle();
        if self.next == self.end && in_flight < window {
            self.idle_until = self.flight.delivered() + in_flight.max(1) as u64;
        }
    }

    fn probing(&mut self, now: Instant) -> Option<Piece> {
        if !self.forced {
            return None;
        }
        self.forced = false;
        let (start, end) = self.flight.probe(now)?;
        Some(self.piece(start, end))
    }

    /// Keep no memory for what may come.
    pub fn shrink(&mut self) {
        self.data.shrink();
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.data.held()
    }
}
