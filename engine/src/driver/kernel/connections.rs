//! The TCP connections that pass by: enough of each to count it, and to reset it on both sides.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::netstack::packet::Ends;
use crate::offload::{Segment, ACK, FIN, RST, SYN};

/// A connection whose near end has finished, or that never opened, is forgotten after this without a packet: the
/// kernel gives up waiting for the far end's last word earlier (tcp(7), `tcp_fin_timeout`).
const FORGET: Duration = Duration::from_secs(300);

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
    seen_at: Option<Instant>,
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

    /// A segment with `data` bytes goes to the peer.
    pub fn outward(&mut self, now: Instant, segment: &Segment, data: usize) {
        let ends = Ends { local: segment.source, remote: segment.destination };
        self.passes(now, ends, segment, data, true);
    }

    /// A segment with `data` bytes goes to our kernel.
    pub fn inward(&mut self, now: Instant, segment: &Segment, data: usize) {
        let ends = Ends { local: segment.destination, remote: segment.source };
        self.passes(now, ends, segment, data, false);
    }

    fn passes(&mut self, now: Instant, ends: Ends, segment: &Segment, data: usize, outward: bool) {
        if segment.flags & RST != 0 {
            self.table.remove(&ends);
            return;
        }
        if segment.opens() {
            let known = self.table.entry(ends).or_default();
            if known.out.finished || known.back.finished {
                *known = Connection::default(); // the ends are used again
            }
        }
        let Some(connection) = self.table.get_mut(&ends) else { return };
        connection.seen_at = Some(now);
        let (direction, other) = match outward {
            true => (&mut connection.out, &mut connection.back),
            false => (&mut connection.back, &mut connection.out),
        };
        let marks = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        let end = segment.sequence.wrapping_add(data as u32).wrapping_add(marks);
        direction.sent = Some(later(direction.sent, end));
        direction.finished |= segment.flags & FIN != 0;
        if segment.flags & ACK != 0 {
            other.arrived = Some(later(other.arrived, segment.acknowledgement));
        }
        if direction.finished && other.finished {
            self.table.remove(&ends);
        }
    }

    /// Forget the connections to an address; says how to reset each.
    pub fn take(&mut self, remote: Ipv6Addr) -> Vec<(Ends, Reset)> {
        let ends = self.table.keys().filter(|ends| ends.remote.0 == remote).copied().collect::<Vec<_>>();
        let found = ends.into_iter().filter_map(|ends| Some((ends, self.table.remove(&ends)?)));
        found.map(|(ends, connection)| (ends, connection.reset())).collect()
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

impl Connection {
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
        Segment { source, destination, sequence, acknowledgement, flags, headers: 60, data: 0 }
    }

    fn opened(now: Instant) -> Connections {
        let mut connections = Connections::default();
        connections.outward(now, &segment(true, SYN, u32::MAX, 0), 0);
        connections.inward(now, &segment(false, SYN | ACK, 99, 0), 0);
        connections.outward(now, &segment(true, ACK, 0, 100), 0);
        connections
    }

    #[test]
    fn a_reset_has_the_numbers_that_each_side_expects() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.outward(now, &segment(true, ACK, 0, 100), 60_000);
        connections.inward(now, &segment(false, ACK, 100, 40_000), 500);
        assert_eq!((connections.len(), connections.contains(&ENDS)), (1, true));
        let reset = Reset { inward: vec![100, 600], outward: vec![40_000, 60_000] };
        assert_eq!(connections.take(FAR.0), [(ENDS, reset)]);
        assert_eq!((connections.len(), connections.take(FAR.0).len()), (0, 0));
    }

    #[test]
    fn a_connection_ends_with_the_second_end_or_a_reset() {
        let now = Instant::now();
        let mut connections = opened(now);
        connections.outward(now, &segment(true, FIN | ACK, 0, 100), 0);
        assert_eq!(connections.len(), 1);
        connections.inward(now, &segment(false, FIN | ACK, 100, 1), 0);
        assert_eq!(connections.len(), 0);
        connections.outward(now, &segment(true, ACK, 1, 101), 0);
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
        connections.outward(now, &segment(true, ACK, 0, 100), 60_000);
        assert_eq!(connections.unanswered(FAR.0), [(ENDS, 0)]);
        assert_eq!(connections.unanswered(NEAR.0), []);
        connections.inward(now, &segment(false, ACK, 100, 60_000), 0);
        assert_eq!(connections.unanswered(FAR.0), []);
        let mut opening = Connections::default();
        opening.outward(now, &segment(true, SYN, 9, 0), 0);
        assert_eq!(opening.unanswered(FAR.0), [], "an error would end it");
    }

    #[test]
    fn what_is_idle_stays_and_what_is_orphaned_goes() {
        let now = Instant::now();
        let later = now + FORGET;
        let mut idle = opened(now);
        idle.tick(now + Duration::from_secs(24 * 3600));
        assert_eq!(idle.len(), 1);
        let mut orphaned = opened(now);
        orphaned.outward(now, &segment(true, FIN | ACK, 0, 100), 0);
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
