//! Where a peer's window ends, for peers that take back what they offered.
//!
//! A kernel numbers an acknowledgement by what it has sent, and that may lie beyond a window that the peer has made
//! smaller since. Linux goes back to the window's end only where the difference is at least one step of its own window
//! scale (`tcp_acceptable_seq`). Nothing beyond a window need be looked at (RFC 9293 §3.10.7.4), and Tailscale's TCP does
//! not look at what such a segment acknowledges either: with both directions full, both sides then wait for ever.

use crate::offload::{Segment, ACK, FIN, RST, SYN};

/// What one peer takes of what our kernel sends on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer {
    /// By how many bits each side's SYN said that its windows are shifted.
    our_scale: Option<u8>,
    their_scale: Option<u8>,
    /// The last number that the peer acknowledged, and the end of the window that it offered with that.
    last: Option<(u32, u32)>,
}

impl Offer {
    /// Our kernel sends a segment.
    pub fn sent(&mut self, segment: &Segment) {
        if segment.flags & SYN != 0 {
            self.our_scale = segment.scale;
        }
    }

    /// The peer sent one.
    pub fn heard(&mut self, segment: &Segment) {
        let opening = segment.flags & SYN != 0;
        if opening {
            self.their_scale = segment.scale;
        }
        let acknowledged = segment.acknowledgement;
        let overtaken = self.last.is_some_and(|(latest, _)| before(acknowledged, latest));
        if segment.flags & (ACK | RST) == ACK && !overtaken {
            // In a SYN windows are never shifted, and otherwise only where both sides said so (RFC 7323 §2.2).
            let scale = self.their_scale.filter(|_| self.our_scale.is_some() && !opening).unwrap_or(0);
            self.last = Some((acknowledged, acknowledged.wrapping_add(u32::from(segment.window) << scale)));
        }
    }

    /// The number that makes the peer heed an acknowledgement of ours, where its own does not.
    ///
    /// What carries bytes or an end, and a question for room (one less than what was acknowledged), is left as it is.
    pub fn number_inside(&self, segment: &Segment) -> Option<u32> {
        let (_, end) = self.last?;
        let bare = segment.data == 0 && segment.flags & (ACK | SYN | FIN | RST) == ACK;
        (bare && before(end, segment.sequence)).then_some(end)
    }
}

/// Whether a number comes before another on their circle (RFC 9293 §3.4).
fn before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const ANYONE: (Ipv6Addr, u16) = (Ipv6Addr::LOCALHOST, 1);

    fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> Segment {
        let headers = 72;
        let (data, window, scale) = (0, 0, None);
        Segment { source: ANYONE, destination: ANYONE, sequence, acknowledgement, flags, headers, data, window, scale }
    }

    fn scaled(flags: u8, scale: Option<u8>) -> Segment {
        Segment { scale, window: 65_535, ..segment(flags, 999, 1000) }
    }

    fn heard(acknowledgement: u32, window: u16) -> Segment {
        Segment { window, ..segment(ACK, 7, acknowledgement) }
    }

    /// A connection that both sides opened with these scales.
    fn opened(ours: Option<u8>, theirs: Option<u8>) -> Offer {
        let mut offer = Offer::default();
        offer.sent(&scaled(SYN, ours));
        offer.heard(&scaled(SYN | ACK, theirs));
        offer
    }

    #[test]
    fn an_acknowledgement_beyond_the_window_gets_the_number_of_its_end() {
        // Scales of both sides; windows that the peer offered, with what it acknowledged; a number of ours, and the end.
        type Row<'a> = (Option<u8>, Option<u8>, &'a [(u32, u16)], u32, Option<u32>);
        let rows: &[Row<'_>] = &[
            (Some(8), Some(8), &[(1000, 4)], 2024, None),
            (Some(8), Some(8), &[(1000, 4)], 2025, Some(2024)),
            (Some(8), Some(8), &[(1000, 4), (1100, 3)], 2024, Some(1868)),
            (Some(8), Some(8), &[(1000, 4), (2024, 0)], 2024, None),
            (Some(8), Some(8), &[(1000, 4), (1900, 0)], 2024, Some(1900)),
            (Some(8), Some(8), &[(1000, 4), (1900, 0), (1900, 8)], 2024, None),
            (Some(8), Some(8), &[(1900, 0), (1000, 4)], 2024, Some(1900)),
            (Some(8), Some(3), &[(1000, 4)], 1033, Some(1032)),
            (Some(0), Some(0), &[(1000, 4)], 1005, Some(1004)),
            (None, Some(8), &[(1000, 4)], 1005, Some(1004)),
            (Some(8), None, &[(1000, 4)], 1005, Some(1004)),
            (Some(8), Some(8), &[], 66_535, None),
            (Some(8), Some(8), &[], 66_536, Some(66_535)),
            (Some(8), Some(14), &[(1000, 0xffff)], 1000 + (1 << 30), Some(1000 + (0xffff << 14))),
        ];
        for (ours, theirs, offers, number, inside) in rows {
            let mut offer = opened(*ours, *theirs);
            offers.iter().for_each(|(acknowledged, window)| offer.heard(&heard(*acknowledged, *window)));
            assert_eq!(
                offer.number_inside(&segment(ACK, *number, 8)),
                *inside,
                "{ours:?} {theirs:?} {offers:?} {number}"
            );
        }
    }

    #[test]
    fn numbers_go_round() {
        let mut offer = opened(Some(8), Some(8));
        for (acknowledged, window, number, inside) in [
            (0x8000_0000, 1, 0x8000_0100, None),
            (0xffff_ff00, 2, 0x0000_0101, Some(0x100)),
            (0x0000_0080, 0, 0x0000_0101, Some(0x80)),
            (0xffff_fff0, 9, 0x0000_0101, Some(0x80)),
        ] {
            offer.heard(&heard(acknowledged, window));
            assert_eq!(offer.number_inside(&segment(ACK, number, 8)), inside, "{acknowledged:x}");
        }
    }

    #[test]
    fn all_else_is_left_as_it_is() {
        let mut offer = opened(Some(8), Some(8));
        offer.heard(&heard(1900, 0));
        assert_eq!(offer.number_inside(&segment(ACK, 2024, 8)), Some(1900));
        assert_eq!(offer.number_inside(&segment(ACK, 1899, 8)), None, "a question for room, or whether it is there");
        assert_eq!(offer.number_inside(&Segment { data: 1, ..segment(ACK, 2024, 8) }), None);
        for flags in [RST | ACK, RST, FIN | ACK, SYN | ACK, SYN, 0] {
            assert_eq!(offer.number_inside(&segment(flags, 2024, 8)), None, "{flags:x}");
        }
        offer.heard(&Segment { window: 9, ..segment(RST | ACK, 7, 1900) });
        assert_eq!(offer.number_inside(&segment(ACK, 2024, 8)), Some(1900), "a reset offers nothing");
        assert_eq!(Offer::default().number_inside(&segment(ACK, 2024, 8)), None, "the peer has said nothing yet");
    }
}
