//! TCP without sockets, threads or a clock (RFC 9293, with RFC 2018, 2883, 5961, 6298, 7323 scaling, 8985).
//!
//! Inside, a byte is named by its position in its stream, which never wraps; sequence numbers exist on the wire only.
//! There are no timestamps: WireGuard lets no old packet pass, so that a wrapped sequence number cannot be mistaken.

mod chunks;
mod congestion;
mod flight;
mod ranges;
mod receiver;
mod rtt;
mod segment;
mod sender;
#[cfg(test)]
mod tests;
mod transmit;

use std::time::{Duration, Instant};

use receiver::Receiver;
pub use segment::{refuse, Options, Segment, HEADERS};
use segment::{Writer, ACK, FIN, MAX_BLOCKS, RST, SYN};
use sender::{Sender, FIRST};

use super::packet::Ends;

/// A peer that answers nothing for this long has gone. A night without network ends no session.
pub const GIVE_UP: Duration = Duration::from_secs(8 * 3600 + 600);
/// A connection on which nothing was heard for this long asks whether its peer still knows it.
const KEEPALIVE: Duration = Duration::from_secs(15 * 60);
/// Answers to what a blind attacker could have sent are this far apart (RFC 5961 §7).
const CHALLENGE_PAUSE: Duration = Duration::from_millis(100);
/// Windows are not scaled by more than the widest position difference that a sequence number tells.
const HALF: u32 = 1 << 31;

/// RFC 9293 §3.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

/// One connection.
pub struct Connection {
    state: State,
    writer: Writer,
    sender: Sender,
    receiver: Receiver,
    /// Sequence numbers of position 0 in both directions.
    send_base: u32,
    receive_base: u32,
    /// The shift of the peer's windows, and where the last came from (RFC 9293 §3.10.7.4: SND.WL1, SND.WL2).
    peer_scale: u8,
    window_from: (u64, u64),
    peer_sacks: bool,
    /// The largest segment that the path takes, and that the peer takes.
    path_segment: usize,
    peer_segment: usize,
    /// When the opening is sent (again), and how often it was.
    opening_at: Option<Instant>,
    openings: u32,
    opened_at: Option<Instant>,
    /// A reset is to be sent; a reset for an acknowledgement that is not of this connection is to be sent.
    reset: bool,
    stray: Option<u32>,
    /// When something was last heard.
    heard_at: Option<Instant>,
    /// When the present wait for an answer began.
    waiting_since: Option<Instant>,
    asked_at: Option<Instant>,
    challenged_at: Option<Instant>,
}

impl Connection {
    fn new(state: State, ends: Ends, send_base: u32, mtu: usize, max_window: usize) -> Self {
        let path_segment = mtu - HEADERS;
        Self {
            state,
            writer: Writer::new(ends),
            sender: Sender::new(path_segment),
            receiver: Receiver::new(max_window),
            send_base,
            receive_base: 0,
            peer_scale: 0,
            window_from: (0, 0),
            peer_sacks: false,
            path_segment,
            peer_segment: path_segment,
            opening_at: None,
            openings: 0,
            opened_at: None,
            reset: false,
            stray: None,
            heard_at: None,
            waiting_since: None,
            asked_at: None,
            challenged_at: None,
        }
    }

    /// Begin a connection: the next `transmit` sends the opening.
    pub fn connect(ends: Ends, send_base: u32, mtu: usize, max_window: usize) -> Self {
        Self::new(State::SynSent, ends, send_base, mtu, max_window)
    }

    /// Wait for the opening of a connection, which comes next.
    pub fn listen(ends: Ends, send_base: u32, mtu: usize, max_window: usize) -> Self {
        Self::new(State::Listen, ends, send_base, mtu, max_window)
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Send packets of at most so many bytes from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.path_segment = mtu - HEADERS;
        self.sender.set_max_segment(self.path_segment.min(self.peer_segment));
    }

    /// Have at most so much in flight.
    pub fn set_limit(&mut self, bytes: usize) {
        self.sender.set_limit(bytes);
    }

    /// The path to the peer is another.
    pub fn path_changed(&mut self, now: Instant) {
        self.sender.path_changed(now);
        self.opening_at = self.opening_at.map(|at| at.min(now));
    }

    /// The peer is heard again after a silence.
    pub fn way_restored(&mut self, now: Instant) {
        self.sender.way_restored(now);
    }

    /// The position that a sequence number means, nearest to `near`.
    fn position(base: u32, near: u64, sequence: u32) -> Option<u64> {
        let distance = sequence.wrapping_sub(base.wrapping_add(near as u32));
        if distance < HALF {
            Some(near + u64::from(distance))
        } else {
            near.checked_sub(u64::from(distance.wrapping_neg()))
        }
    }

    /// Take in a segment.
    pub fn receive(&mut self, now: Instant, segment: &Segment<'_>) {
        match self.state {
            State::Closed => {}
            State::Listen => self.receive_opening(now, segment),
            State::SynSent => self.receive_answer(now, segment),
            _ => self.receive_any(now, segment),
        }
    }

    fn heard(&mut self, now: Instant) {
        (self.heard_at, self.waiting_since, self.asked_at) = (Some(now), None, None);
    }

    fn receive_opening(&mut self, now: Instant, segment: &Segment<'_>) {
        if segment.has(SYN) && !segment.has(ACK) && !segment.has(RST) {
            self.heard(now);
            self.learn(segment);
            self.state = State::SynReceived;
            self.opening_at = Some(now);
        }
    }

    /// Learn what the peer's opening says.
    fn learn(&mut self, segment: &Segment<'_>) {
        self.receive_base = segment.sequence;
        match segment.options.scale {
            Some(scale) => self.peer_scale = scale,
            None => self.receiver.set_unscaled(),
        }
        self.peer_sacks = segment.options.sack_permitted;
        self.peer_segment = segment.options.max_segment().max(MIN_SEGMENT);
        self.sender.set_max_segment(self.path_segment.min(self.peer_segment));
        self.sender.set_window_end(FIRST + u64::from(segment.window)); // not scaled: RFC 7323 §2.2
        self.window_from = (0, FIRST);
    }

    fn receive_answer(&mut self, now: Instant, segment: &Segment<'_>) {
        let ours = segment.acknowledgement == self.send_base.wrapping_add(1) && self.openings > 0;
        if segment.has(ACK) && !ours {
            if !segment.has(RST) {
                self.stray = Some(segment.acknowledgement); // tell its sender
            }
            return;
        }
        if segment.has(RST) {
            if ours && segment.has(ACK) {
                self.state = State::Closed;
            }
            return;
        }
        if !segment.has(SYN) {
            return;
        }
        self.heard(now);
        self.learn(segment);
        if segment.has(ACK) {
            self.establish(now);
            self.receiver.acknowledge_soon();
            self.receive_stream(now, segment, FIRST);
        } else {
            (self.state, self.opening_at) = (State::SynReceived, Some(now)); // both opened at once
        }
    }

    fn establish(&mut self, now: Instant) {
        self.state = if self.sender.closed() { State::FinWait1 } else { State::Established };
        self.opening_at = None;
        if let (Some(at), 1) = (self.opened_at, self.openings) {
            self.sender.round_trip.measure(now.saturating_duration_since(at));
        }
    }

    /// RFC 9293 §3.10.7.4.
    fn receive_any(&mut self, now: Instant, segment: &Segment<'_>) {
        let expected = self.receiver.next();
        let start = Self::position(self.receive_base, expected, segment.sequence);
        let acceptable = start.is_some_and(|start| self.receiver.acceptable(start, segment.length().into()));
        let Some(start) = start.filter(|_| acceptable) else {
            if !segment.has(RST) {
                self.receive_unacceptable(now, segment, start);
            }
            return;
        };
        if segment.has(RST) {
            if start == expected {
                self.state = State::Closed;
            } else {
                self.challenge(now);
            }
            return;
        }
        if segment.has(SYN) {
            self.challenge(now);
            return;
        }
        if !segment.has(ACK) {
            return;
        }
        let position = Self::position(self.send_base, self.sender.acknowledged(), segment.acknowledgement);
        let Some(position) = position.filter(|position| *position <= self.sender.next()) else {
            if self.state == State::SynReceived {
                self.stray = Some(segment.acknowledgement);
            } else {
                self.challenge(now);
            }
            return;
        };
        self.heard(now);
        if self.state == State::SynReceived {
            if position < FIRST {
                return;
            }
            self.establish(now);
        }
        self.acknowledge(now, segment, start, position);
        self.receive_stream(now, segment, start);
    }

    /// Nothing of a segment is in the window: say what is expected. What it acknowledges counts all the same.
    fn receive_unacceptable(&mut self, now: Instant, segment: &Segment<'_>, start: Option<u64>) {
        if self.state == State::SynReceived && segment.has(SYN) && !segment.has(ACK) {
            self.opening_at = Some(now); // the peer has not heard our answer
            return;
        }
        let answers = segment.has(SYN) && segment.acknowledgement == self.send_base.wrapping_add(FIRST as u32);
        if self.state == State::SynReceived && segment.has(ACK) && answers {
            self.heard(now);
            self.establish(now); // both had opened at once
        }
        let position = Self::position(self.send_base, self.sender.acknowledged(), segment.acknowledgement);
        if let (Some(position), true) = (position, segment.has(ACK) && !segment.has(SYN)) {
            let (synchronized, sent) = (self.state != State::SynReceived, position <= self.sender.next());
            if synchronized && sent {
                self.heard(now);
                self.acknowledge(now, segment, start.unwrap_or(0), position);
            }
        }
        if let Some(start) = start.filter(|_| !segment.payload.is_empty()) {
            self.receiver.receive(now, start, segment.payload, false); // it notes what came twice
        }
        self.receiver.acknowledge_soon();
    }

    fn acknowledge(&mut self, now: Instant, segment: &Segment<'_>, start: u64, position: u64) {
        let newer = start > self.window_from.0 || (start == self.window_from.0 && position >= self.window_from.1);
        let mut blocks = [(0, 0); MAX_BLOCKS];
        let mut count = 0;
        if self.peer_sacks && segment.options.blocks[0].is_some() {
            for (left, right) in segment.options.blocks.iter().flatten() {
                let near = self.sender.acknowledged();
                let left = Self::position(self.send_base, near, *left);
                let right = Self::position(self.send_base, near, *right);
                if let (Some(left), Some(right)) = (left, right.filter(|right| *right <= self.sender.next())) {
                    blocks[count] = (left, right);
                    count += 1;
                }
            }
            if count > 0 && is_duplicate(position, &blocks[..count]) {
                self.sender.duplicated();
            }
        }
        self.sender.acknowledge(now, position, &blocks[..count]);
        if newer {
            self.window_from = (start, position);
            self.sender.set_window_end(position + (u64::from(segment.window) << self.peer_scale));
        }
        if self.sender.finished() {
            self.state = match self.state {
                State::FinWait1 => State::FinWait2,
                State::Closing => State::TimeWait,
                State::LastAck => State::Closed,
                state => state,
            };
        }
    }

    fn receive_stream(&mut self, now: Instant, segment: &Segment<'_>, start: u64) {
        let last = segment.has(FIN);
        if segment.payload.is_empty() && !last {
            return;
        }
        let ended = self.receiver.ended();
        self.receiver.receive(now, start, segment.payload, last);
        if ended || !self.receiver.ended() {
            return;
        }
        self.state = match self.state {
            State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            state => state,
        };
    }

    /// Answer what should not have come with what is expected, but not too often.
    fn challenge(&mut self, now: Instant) {
        if self.challenged_at.is_none_or(|at| now.saturating_duration_since(at) >= CHALLENGE_PAUSE) {
            self.challenged_at = Some(now);
            self.receiver.acknowledge_soon();
        }
    }

    /// Whether bytes may still be sent.
    pub fn may_send(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }

    /// How many bytes more are taken now.
    pub fn room(&self) -> usize {
        if self.may_send() {
            self.sender.room()
        } else {
            0
        }
    }

    /// Let `fill` write up to `room` bytes to send; it says how many it wrote.
    pub fn fill<R>(&mut self, room: usize, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        self.sender.fill(room, fill)
    }

    /// Whether received bytes wait.
    pub fn readable(&self) -> bool {
        self.receiver.readable()
    }

    /// Hand received bytes to `take`, which says how many it took.
    pub fn take<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        self.receiver.take(take)
    }

    /// Whether nothing more will come, and all that came was taken.
    pub fn drained(&self) -> bool {
        (self.receiver.ended() || self.state == State::Closed) && !self.receiver.readable()
    }

    /// Send no more.
    pub fn close(&mut self) {
        self.state = match self.state {
            State::Listen | State::SynSent => State::Closed,
            State::SynReceived => State::SynReceived, // the end follows when the peer has answered
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            _ => return,
        };
        self.sender.close();
    }

    /// End the connection without ceremony; the next `transmit` tells the peer.
    pub fn abort(&mut self) {
        self.reset = !matches!(self.state, State::Listen | State::SynSent | State::TimeWait | State::Closed);
        self.state = State::Closed;
    }

    /// Whether the peer must answer something.
    fn waits(&self) -> bool {
        match self.state {
            State::Listen | State::Closed | State::TimeWait => false,
            State::SynSent | State::SynReceived => true,
            _ => self.sender.waits() || self.asked_at.is_some(),
        }
    }

    /// Whether the peer has answered nothing for too long. Call this now and then.
    pub fn given_up(&mut self, now: Instant) -> bool {
        if !self.waits() {
            self.waiting_since = None;
            return false;
        }
        now.saturating_duration_since(*self.waiting_since.get_or_insert(now)) >= GIVE_UP
    }

    fn keepalive_at(&self) -> Option<Instant> {
        let open = !matches!(
            self.state,
            State::Listen | State::SynSent | State::SynReceived | State::TimeWait | State::Closed
        );
        open.then_some(self.heard_at.max(self.asked_at)? + KEEPALIVE)
    }

    /// When `transmit` has something to do that nothing else brings.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let timers = [
            self.opening_at,
            self.keepalive_at(),
            self.sender.poll_timeout(),
            self.receiver.poll_timeout(),
            self.sender.paced_until(now),
        ];
        timers.into_iter().flatten().min()
    }

    /// By how much the window offered to the peer should grow; `grow` lets it.
    pub fn wants_growth(&mut self, now: Instant) -> usize {
        self.receiver.wants_growth(now)
    }

    pub fn grow(&mut self, bytes: usize) {
        self.receiver.grow(bytes);
    }

    /// How much the window offered to the peer has grown.
    pub fn grown(&self) -> usize {
        self.receiver.grown()
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.sender.held() + self.receiver.held()
    }

    /// Whether nothing was heard for so long that memory for what may come is not worth holding.
    pub fn rests(&self, now: Instant, pause: Duration) -> bool {
        self.heard_at.is_some_and(|at| now.saturating_duration_since(at) >= pause) && !self.readable()
    }

    /// Hold no memory for what may come.
    pub fn shrink(&mut self) {
        self.sender.shrink();
        self.receiver.shrink();
    }
}

/// A segment size below this is not believed.
const MIN_SEGMENT: usize = 216;

/// Whether the first block of an acknowledgement names what came twice (RFC 2883 §4).
fn is_duplicate(position: u64, blocks: &[(u64, u64)]) -> bool {
    let first = blocks[0];
    let inside = |other: &(u64, u64)| other.0 <= first.0 && first.1 <= other.1;
    first.1 <= position || blocks.get(1).is_some_and(inside)
}

#[cfg(test)]
pub mod testing {
    /// Pseudo-random numbers from a seed (xorshift*).
    pub struct Random(u64);

    impl Random {
        pub fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        }

        pub fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        pub fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }

        /// Whether something of this probability happens.
        pub fn chance(&mut self, probability: f64) -> bool {
            (self.next() >> 11) as f64 / (1_u64 << 53) as f64 > 1.0 - probability
        }
    }
}
