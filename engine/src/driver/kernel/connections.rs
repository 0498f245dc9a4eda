//! The TCP connections that pass by: enough of each to count it, to reset it on both sides, and to help the kernel over
//! long silences.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::offer::Offer;
use crate::netstack::packet::Ends;
use crate::offload::{Segment, ACK, FIN, RST, SYN};

/// A connection whose near end has finished, or that never opened, is forgotten after this without a packet: the
/// kernel gives up waiting for the far end's last word earlier (tcp(7), `tcp_fin_timeout`).
const FORGET: Duration = Duration::from_secs(300);
/// The longest pause between two attempts to repeat a segment, by which the return of a silent peer is noticed. The
/// kernel's own doubles up to two minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Numbers of one direction.
#[derive(Debug, Clone, Copy, Default)]
struct Direction {
    /// After everything that was sent.
    sent: Option<u32>,
    /// After everything that the other side says it got.
    arrived: Option<u32>,
    finished: bool,
}

#[derive(Debug, Default)]
struct Connection {
    out: Direction,
    back: Direction,
    offer: Offer,
    seen_at: Option<Instant>,
    heard_at: Option<Instant>,
    /// How our kernel last asked whether the peer has room again, which the peer has not answered.
    probe: Option<Box<[u8]>>,
}

/// What a segment of our kernel's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    Usual,
    /// Repeated so late that the next pause would be too long, unless it is halved so often.
    Late {
        halvings: usize,
    },
    /// A question whether the peer has room again.
    Probe,
    /// An acknowledgement that the peer heeds with this number only.
    Beyond {
        number: u32,
    },
}

/// All connections of a node.
#[derive(Debug, Default)]
pub struct Connections {
    table: HashMap<Ends, Connection>,
}

/// Numbers with which a reset is believed: the receiver expects one of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Reset {
    /// For packets in the peer's name to our kernel.
    pub inward: Vec<u32>,
    /// For packets in our kernel's name to the peer.
    pub outward: Vec<u32>,
}

impl Connections {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn contains(&self, ends: &Ends) -> bool {
        self.table.contains_key(ends)
    }

    /// A segment goes to the peer.
    pub fn outward(&mut self, now: Instant, segment: &Segment) -> Passing {
        let ends = Ends { local: segment.source, remote: segment.destination };
        self.passes(now, ends, segment, segment.data, true)
    }

    /// A segment with `data` bytes goes to our kernel.
    pub fn inward(&mut self, now: Instant, segment: &Segment, data: usize) {
        let ends = Ends { local: segment.destination, remote: segment.source };
        self.passes(now, ends, segment, data, false);
    }

    fn passes(&mut self, now: Instant, ends: Ends, segment: &Segment, data: usize, outward: bool) -> Passing {
        if segment.flags & RST != 0 {
            self.table.remove(&ends);
            return Passing::Usual;
        }
        if segment.opens() {
            let known = self.table.entry(ends).or_default();
            if known.out.finished || known.back.finished {
                *known = Connection::default(); // the ends are used again
            }
        }
        let Some(connection) = self.table.get_mut(&ends) else { return Passing::Usual };
        let passing = if outward { connection.judge(now, segment) } else { Passing::Usual };
        connection.seen_at = Some(now);
        let (direction, other) = match outward {
            true => (&mut connection.out, &mut connection.back),
            false => (&mut connection.back, &mut connection.out),
        };
        match outward {
            true => connection.offer.sent(segment),
            false => connection.offer.heard(segment),
        }
        let marks = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        let end = segment.sequence.wrapping_add(data as u32).wrapping_add(marks);
        direction.sent = Some(later(direction.sent, end));
        direction.finished |= segment.flags & FIN != 0;
        if segment.flags & ACK != 0 {
            other.arrived = Some(later(other.arrived, segment.acknowledgement));
        }
        if !outward {
            connection.heard_at = Some(now);
        }
        if !outward || data > 0 {
            connection.probe = None;
        }
        // An end that nobody acknowledged is repeated: such a connection is not over.
        if connection.out.done() && connection.back.done() {
            self.table.remove(&ends);
        }
        passing
    }

    /// Keep a probe that just passed by.
    pub fn keep_probe(&mut self, segment: &Segment, packet: &[u8]) {
        let ends = Ends { local: segment.source, remote: segment.destination };
        if let Some(connection) = self.table.get_mut(&ends) {
            connection.probe = Some(packet.into());
        }
    }

    /// The probes to an address that were not answered.
    pub fn probes(&self, remote: Ipv6Addr) -> Vec<Box<[u8]>> {
        let to = self.table.iter().filter(|(ends, _)| ends.remote.0 == remote);
        to.filter_map(|(_, connection)| connection.probe.clone()).collect()
    }

    /// The connections to an address.
    pub fn to(&self, remote: Ipv6Addr) -> Vec<Ends> {
        self.table.keys().filter(|ends| ends.remote.0 == remote).copied().collect()
    }

    /// Forget a connection; says how to reset it.
    pub fn take(&mut self, ends: &Ends) -> Option<Reset> {
        self.table.remove(ends).map(|connection| connection.reset())
    }

    /// Whether a connection's peer was not heard for so long.
    pub fn silent(&self, now: Instant, ends: &Ends, limit: Duration) -> bool {
        let heard_at = self.table.get(ends).and_then(|connection| connection.heard_at);
        heard_at.is_some_and(|at| now.saturating_duration_since(at) >= limit)
    }

    /// The open connections to an address on which the peer owes an answer, with the number that it should acknowledge.
    pub fn unanswered(&self, remote: Ipv6Addr) -> Vec<(Ends, u32)> {
        let to = self.table.iter().filter(|(ends, connection)| ends.remote.0 == remote && connection.open());
        to.filter(|(_, connection)| connection.out.arrived != connection.out.sent)
            .filter_map(|(ends, connection)| Some((*ends, connection.out.arrived?)))
            .collect()
    }

    /// Forget what is over without anybody having said so.
    pub fn tick(&mut self, now: Instant) {
        self.table.retain(|_, connection| {
            let quiet = connection.seen_at.is_none_or(|at| now.saturating_duration_since(at) >= FORGET);
            !quiet || (connection.open() && !connection.out.finished)
        });
    }
}

impl Direction {
    /// Whether it has ended, and the other side knows.
    fn done(&self) -> bool {
        self.finished && self.sent == self.arrived
    }
}

impl Connection {
    /// What a segment is that our kernel is about to send.
    fn judge(&self, now: Instant, segment: &Segment) -> Passing {
        let (Some(sent), Some(arrived), true) = (self.out.sent, self.out.arrived, self.open()) else {
            return Passing::Usual;
        };
        let empty = segment.end() == segment.sequence;
        let mut pause = self.seen_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)) * 2;
        let mut halvings = 0;
        while pause > LONGEST_PAUSE {
            (pause, halvings) = (pause / 2, halvings + 1);
        }
        match segment.sequence {
            number if halvings > 0 && !empty && number == arrived && number != sent => Passing::Late { halvings },
            number if empty && number == arrived.wrapping_sub(1) => Passing::Probe,
            _ => self.offer.number_inside(segment).map_or(Passing::Usual, |number| Passing::Beyond { number }),
        }
    }

    /// Whether both sides have answered.
    fn open(&self) -> bool {
        self.out.arrived.is_some() && self.back.arrived.is_some()
    }

    fn reset(&self) -> Reset {
        let numbers = |direction: &Direction| {
            let mut numbers: Vec<u32> = direction.arrived.into_iter().chain(direction.sent).collect();
            numbers.dedup();
            numbers
        };
        Reset { inward: numbers(&self.back), outward: numbers(&self.out) }
    }
}

/// The later of two numbers on their circle (RFC 9293 §3.4).
fn later(known: Option<u32>, new: u32) -> u32 {
    known.filter(|known| new.wrapping_sub(*known) as i32 <= 0).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1), 50_000);
    const FAR: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2), 22);
    const ENDS: Ends = Ends { local: NEAR, remote: FAR };

    fn segment(outward: bool, flags: u8, sequence: u32, acknowledgement: u32) -> Segment {
        let (source, destination) = if outward { (NEAR, FAR) } else { (FAR, NEAR) };
        let (headers, data, window, scale) = (60, 0, u16::MAX, Some(8));
        Segment { source, destination, sequence, acknowledgement, flags, headers, data, window, scale }
    }

    fn data(sequence: u32, data: usize) -> Segment {
        Segment { data, ..segment(true, ACK, sequence, 100) }
    }

    fn opened(now: Instant) -> Connections {
        let mut connections = Connections::default();
        connections.outward(now, &segment(true, SYN, u32::MAX, 0));
        connections.inward(now, &segment(false, SYN | ACK, 99, 0), 0);
        connections.outward(now, &segment(true, ACK, 0, 100));
        connections
    }

    #[test]
    fn a_reset_has_the_numbers_that_each_side_expects() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.outward(now, &data(0, 60_000));
        connections.inward(now, &segment(false, ACK, 100, 40_000), 500);
        assert_eq!((connections.len(), connections.contains(&ENDS)), (1, true));
        let reset = Reset { inward: vec![100, 600], outward: vec![40_000, 60_000] };
        assert_eq!((connections.to(FAR.0), connections.to(NEAR.0)), (vec![ENDS], vec![]));
        assert_eq!(connections.take(&ENDS), Some(reset));
        assert_eq!((connections.len(), connections.take(&ENDS)), (0, None));
    }

    #[test]
    fn a_connection_ends_with_the_second_end_or_a_reset() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.outward(now, &segment(true, FIN | ACK, 0, 100));
        assert_eq!(connections.len(), 1);
        connections.inward(now, &segment(false, FIN | ACK, 100, 1), 0);
        assert_eq!(connections.len(), 1, "the peer may not have got the last word");
        connections.outward(now, &segment(true, ACK, 1, 101));
        assert_eq!(connections.len(), 0);
        connections.outward(now, &segment(true, ACK, 1, 101));
        assert_eq!(connections.len(), 0, "the last word begins nothing");
        let mut connections = opened(now);
        connections.inward(now, &segment(false, RST, 100, 0), 0);
        assert_eq!(connections.len(), 0);
    }

    #[test]
    fn a_peer_owes_an_answer_to_what_it_has_not_acknowledged() {
        let now = Instant::now();
        let mut connections = opened(now);
        assert_eq!(connections.unanswered(FAR.0), []);
        connections.outward(now, &data(0, 60_000));
        assert_eq!(connections.unanswered(FAR.0), [(ENDS, 0)]);
        assert_eq!(connections.unanswered(NEAR.0), []);
        connections.inward(now, &segment(false, ACK, 100, 60_000), 0);
        assert_eq!(connections.unanswered(FAR.0), []);
        let mut opening = Connections::default();
        opening.outward(now, &segment(true, SYN, 9, 0));
        assert_eq!(opening.unanswered(FAR.0), [], "an error would end it");
    }

    #[test]
    fn an_end_that_is_not_acknowledged_can_be_reset() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.inward(now, &segment(false, FIN | ACK, 100, 0), 0);
        connections.outward(now, &segment(true, FIN | ACK, 0, 101));
        assert_eq!(connections.unanswered(FAR.0), [(ENDS, 0)]);
        let reset = Reset { inward: vec![101], outward: vec![0, 1] };
        assert_eq!(connections.take(&ENDS), Some(reset));
        let mut connections = opened(now);
        connections.inward(now, &segment(false, FIN | ACK, 100, 0), 0);
        connections.outward(now, &segment(true, FIN | ACK, 0, 101));
        connections.inward(now, &segment(false, ACK, 101, 1), 0);
        assert_eq!(connections.len(), 0);
    }

    #[test]
    fn pauses_between_repeats_grow_to_a_few_seconds_and_no_further() {
        let mut now = Instant::now();
        let mut connections = opened(now);
        assert_eq!(connections.outward(now + 60 * LONGEST_PAUSE, &data(0, 1000)), Passing::Usual, "it is new");
        now += 60 * LONGEST_PAUSE;
        let (mut pause, mut longest) = (Duration::from_millis(220), Duration::ZERO);
        for _ in 0..20 {
            now += pause;
            longest = longest.max(pause);
            pause *= 2; // as the kernel does
            if let Passing::Late { halvings } = connections.outward(now, &data(0, 1000)) {
                pause /= 1 << halvings;
            }
        }
        assert!((LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(&longest), "{longest:?}");
        now += LONGEST_PAUSE * 3;
        assert_eq!(connections.outward(now, &data(0, 1000)), Passing::Late { halvings: 3 });
        now += LONGEST_PAUSE;
        assert_eq!(connections.outward(now, &data(1000, 1000)), Passing::Usual, "it is another");
        assert_eq!(connections.outward(now, &data(0, 1000)), Passing::Usual, "it is not late");
        connections.inward(now, &segment(false, ACK, 100, 2000), 0);
        assert_eq!(connections.outward(now + LONGEST_PAUSE, &data(2000, 1)), Passing::Usual, "nothing was owed");
    }

    #[test]
    fn an_acknowledgement_beyond_a_window_that_was_taken_back_is_told_from_all_else() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.inward(now, &Segment { window: 4, ..segment(false, ACK, 100, 0) }, 0);
        assert_eq!(connections.outward(now, &data(0, 1024)), Passing::Usual);
        assert_eq!(connections.outward(now, &segment(true, ACK, 1024, 100)), Passing::Usual, "it stands at the end");
        connections.inward(now, &Segment { window: 0, ..segment(false, ACK, 100, 900) }, 0);
        assert_eq!(connections.outward(now, &segment(true, ACK, 1024, 100)), Passing::Beyond { number: 900 });
        assert_eq!(connections.outward(now, &segment(true, ACK, 899, 100)), Passing::Probe);
        assert_eq!(connections.outward(now, &data(900, 124)), Passing::Usual, "bytes stay where they are");
        connections.inward(now, &Segment { window: 1, ..segment(false, ACK, 100, 900) }, 0);
        assert_eq!(connections.outward(now, &segment(true, ACK, 1024, 100)), Passing::Usual, "there is room again");
        // The same ends are used again, by somebody who does not scale.
        connections.outward(now, &segment(true, FIN | ACK, 1024, 100));
        connections.outward(now, &Segment { scale: None, ..segment(true, SYN, 4999, 0) });
        connections.inward(now, &segment(false, SYN | ACK, 99, 5000), 0);
        assert_eq!(connections.outward(now, &segment(true, ACK, 5000, 100)), Passing::Usual);
        connections.inward(now, &Segment { window: 4, ..segment(false, ACK, 100, 5000) }, 0);
        assert_eq!(connections.outward(now, &segment(true, ACK, 5005, 100)), Passing::Beyond { number: 5004 });
    }

    #[test]
    fn silence_is_counted_from_the_last_word_of_the_peer() {
        let (now, limit) = (Instant::now(), Duration::from_secs(100));
        let mut connections = opened(now);
        connections.outward(now + limit / 2, &data(0, 1000));
        assert!(!connections.silent(now + limit / 2, &ENDS, limit));
        assert!(connections.silent(now + limit, &ENDS, limit));
        connections.inward(now + limit, &segment(false, ACK, 100, 1000), 0);
        assert!(!connections.silent(now + limit, &ENDS, limit));
        let unknown = Ends { local: FAR, remote: NEAR };
        assert!(!connections.silent(now + limit, &unknown, limit));
    }

    #[test]
    fn an_opening_is_never_late() {
        let now = Instant::now();
        let mut connections = Connections::default();
        assert_eq!(connections.outward(now, &segment(true, SYN, 9, 0)), Passing::Usual);
        assert_eq!(connections.outward(now + LONGEST_PAUSE, &segment(true, SYN, 9, 0)), Passing::Usual);
    }

    #[test]
    fn the_last_question_for_room_is_kept_until_the_peer_is_heard() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.outward(now, &data(0, 1000));
        connections.inward(now, &segment(false, ACK, 100, 1000), 0);
        let probe = segment(true, ACK, 999, 100);
        assert_eq!(connections.outward(now, &segment(true, ACK, 1000, 100)), Passing::Usual);
        assert_eq!(connections.outward(now, &probe), Passing::Probe);
        connections.keep_probe(&probe, b"probe");
        assert_eq!(connections.probes(NEAR.0).len(), 0);
        assert_eq!(connections.probes(FAR.0), [Box::from(*b"probe")]);
        connections.inward(now, &segment(false, ACK, 100, 1000), 0);
        assert_eq!(connections.probes(FAR.0).len(), 0);
        connections.keep_probe(&probe, b"probe");
        connections.outward(now, &data(1000, 1));
        assert_eq!(connections.probes(FAR.0).len(), 0, "there was room");
    }

    #[test]
    fn what_is_idle_stays_and_what_is_orphaned_goes() {
        let now = Instant::now();
        let later = now + FORGET;
        let mut idle = opened(now);
        idle.tick(now + Duration::from_secs(24 * 3600));
        assert_eq!(idle.len(), 1);
        let mut orphaned = opened(now);
        orphaned.outward(now, &segment(true, FIN | ACK, 0, 100));
        orphaned.tick(later - Duration::from_millis(1));
        assert_eq!(orphaned.len(), 1);
        orphaned.tick(later);
        assert_eq!(orphaned.len(), 0);
        let mut unanswered = Connections::default();
        unanswered.inward(now, &segment(false, SYN, 9, 0), 0);
        unanswered.tick(later);
        assert_eq!(unanswered.len(), 0);
    }
}
