//! What a connection puts on the wire.

use std::time::{Duration, Instant};

use super::super::device::Batch;
use super::segment::{Fields, Options, ACK, FIN, PSH, RST, SYN};
use super::sender::Piece;
use super::{Connection, State};

/// The opening is repeated after this, then twice as late each time, at most this late.
const OPENING_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_OPENING_PAUSE: Duration = Duration::from_secs(4);

impl Connection {
    /// Write what is to be sent to `out`, until that holds `budget` bytes; says whether there is more.
    pub fn transmit(&mut self, now: Instant, out: &mut Batch, budget: usize) -> bool {
        if let Some(sequence) = self.stray.take() {
            self.writer.write(out, Fields { sequence, flags: RST, ..Fields::default() }, &Options::default(), [&[]; 2]);
        }
        match self.state {
            State::Closed => self.transmit_reset(out),
            State::Listen => {}
            State::SynSent | State::SynReceived => self.transmit_opening(now, out),
            _ => return self.transmit_stream(now, out, budget),
        }
        false
    }

    fn transmit_reset(&mut self, out: &mut Batch) {
        if std::mem::take(&mut self.reset) {
            let fields = self.fields(self.sender.next(), RST | ACK, 0);
            self.writer.write(out, fields, &Options::default(), [&[]; 2]);
        }
    }

    pub(super) fn fields(&self, position: u64, flags: u8, window: u16) -> Fields {
        Fields {
            sequence: self.send_base.wrapping_add(position as u32),
            acknowledgement: self.receive_base.wrapping_add(self.receiver.next() as u32),
            flags,
            window,
        }
    }

    fn transmit_opening(&mut self, now: Instant, out: &mut Batch) {
        if self.openings > 0 && self.opening_at.is_none_or(|at| at > now) {
            return;
        }
        let answers = self.state == State::SynReceived;
        let window = self.receiver.offer_unscaled();
        let mut fields = self.fields(0, if answers { SYN | ACK } else { SYN }, window);
        if !answers {
            fields.acknowledgement = 0;
        }
        let scaled = !answers || self.receiver.scale() > 0;
        let options = Options {
            max_segment: Some(self.path_segment as u16),
            scale: scaled.then_some(self.receiver.scale()),
            sack_permitted: !answers || self.peer_sacks,
            ..Options::default()
        };
        self.writer.write(out, fields, &options, [&[]; 2]);
        let pause = OPENING_PAUSE * (1 << self.openings.min(8));
        self.opened_at = Some(now);
        self.openings = self.openings.saturating_add(1);
        self.opening_at = Some(now + pause.min(LONGEST_OPENING_PAUSE));
    }

    fn transmit_stream(&mut self, now: Instant, out: &mut Batch, budget: usize) -> bool {
        if self.sender.poll_timeout().is_some_and(|at| at <= now) {
            self.sender.handle_timeout(now);
        }
        self.acknowledge_out_of_order(now, out);
        let mut window = None;
        while out.len() < budget {
            let Some(piece) = self.sender.next_piece(now) else { break };
            let window = *window.get_or_insert_with(|| self.receiver.offer());
            self.transmit_piece(piece, window, out);
        }
        if window.is_some() {
            self.receiver.acknowledged();
        }
        let asks = std::mem::take(&mut self.sender.asking) || self.keepalive_at().is_some_and(|at| at <= now);
        if asks {
            self.asked_at = Some(now);
            let window = self.receiver.offer();
            let fields = self.fields(self.sender.acknowledged().saturating_sub(1), ACK, window);
            self.writer.write(out, fields, &Options::default(), [&[]; 2]);
        } else if window.is_none() && self.receiver.must_acknowledge(now, self.path_segment) {
            let window = self.receiver.offer();
            let fields = self.fields(self.sender.acceptable(), ACK, window);
            self.writer.write(out, fields, &Options::default(), [&[]; 2]);
            self.receiver.acknowledged();
        }
        out.len() >= budget && self.sender.wants(now)
    }

    /// Tell the peer what arrived out of order, or twice.
    fn acknowledge_out_of_order(&mut self, now: Instant, out: &mut Batch) {
        let news = self.peer_sacks && self.receiver.out_of_order();
        if !news || !self.receiver.must_acknowledge(now, self.path_segment) {
            return;
        }
        let window = self.receiver.offer();
        let fields = self.fields(self.sender.acceptable(), ACK, window);
        for options in self.receiver.acknowledgements(self.receive_base) {
            self.writer.write(out, fields, &options, [&[]; 2]);
        }
        self.receiver.acknowledged();
    }

    /// Write a piece of the stream; one that the path no longer takes whole leaves in several packets.
    fn transmit_piece(&mut self, piece: Piece, window: u16, out: &mut Batch) {
        let (mut start, most) = (piece.start, self.path_segment.min(self.peer_segment) as u64);
        loop {
            let end = piece.end.min(start + most);
            let part = Piece { start, end, last: piece.last && end == piece.end };
            let push = start < end && end == self.sender.end();
            let flags = ACK | if part.last { FIN } else { 0 } | if push { PSH } else { 0 };
            self.writer.write(out, self.fields(start, flags, window), &Options::default(), self.sender.bytes(part));
            if end == piece.end {
                return;
            }
            start = end;
        }
    }
}
