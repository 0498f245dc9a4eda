//! What arrives on one connection, cut into DERP frames.

use super::websocket::{self, CloseCode, Piece};
use crate::wire::derp::{self, FrameType, HEADER_LEN, MAX_PACKET_LEN};
use crate::wire::keys::{KEY_LEN, SEAL_OVERHEAD};

/// A login is a few hundred bytes. Whoever has not logged in yet gets no more memory than this.
const MAX_LOGIN_LEN: usize = 16 << 10;
/// A ping is eight bytes; later versions may add to it.
const MAX_PING_LEN: usize = 1000;

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other side closed, in due form.
    Closed,
    /// It broke the DERP protocol.
    Protocol,
    /// It broke the WebSocket protocol.
    WebSocket(CloseCode),
}

/// What the reader of a connection found.
pub enum Item<'a> {
    Frame {
        kind: u8,
        body: &'a [u8],
    },
    /// A frame that a relay does nothing with; its bytes are passed over as they come.
    Skipped {
        kind: u8,
    },
    WebSocketPing(Vec<u8>),
}

/// The reading side of one connection. Holds no memory while no frame is under way.
#[derive(Debug, Default)]
pub struct Input {
    websocket: Option<Box<websocket::Decoder>>,
    frames: Frames,
}

impl Input {
    /// Make the reading side of a fresh connection.
    pub fn new(websocket: bool) -> Self {
        Self { websocket: websocket.then(Box::default), frames: Frames::default() }
    }

    /// Take what was read (which is unmasked in place) and hand on each item that it completes.
    ///
    /// # Errors
    /// The connection must end.
    pub fn feed<S: FnMut(Item<'_>) -> Result<(), Fault>>(
        &mut self,
        mut bytes: &mut [u8],
        mut sink: S,
    ) -> Result<(), Fault> {
        let Some(decoder) = &mut self.websocket else {
            return self.frames.feed(bytes, &mut sink);
        };
        while let Some(piece) = decoder.next_piece(&mut bytes).map_err(Fault::WebSocket)? {
            match piece {
                Piece::Bytes(bytes) => self.frames.feed(bytes, &mut sink)?,
                Piece::Ping(payload) => sink(Item::WebSocketPing(payload))?,
                Piece::Close => return Err(Fault::Closed),
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Frames {
    /// The frame of which not all has arrived.
    partial: Vec<u8>,
    /// Bytes to come of an unknown frame.
    skip: usize,
    logged_in: bool,
}

impl Frames {
    fn feed<S: FnMut(Item<'_>) -> Result<(), Fault>>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            if self.partial.is_empty() {
                bytes = self.take_whole(bytes, sink)?;
            } else {
                bytes = self.complete_partial(bytes, sink)?;
            }
        }
        Ok(())
    }

    /// Take whole frames straight from what was read; keep the start of the last one.
    fn take_whole<'a, S: FnMut(Item<'_>) -> Result<(), Fault>>(
        &mut self,
        bytes: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8], Fault> {
        let Some((kind, length)) = derp::parse_header(bytes) else {
            self.partial.extend_from_slice(bytes);
            return Ok(&[]);
        };
        let rest = &bytes[HEADER_LEN..];
        if !self.admit(kind, length)? {
            self.skip = length;
            sink(Item::Skipped { kind })?;
            return Ok(rest);
        }
        let Some((body, rest)) = rest.split_at_checked(length) else {
            self.partial.reserve_exact(HEADER_LEN + length);
            self.partial.extend_from_slice(bytes);
            return Ok(&[]);
        };
        self.emit(kind, body, sink)?;
        Ok(rest)
    }

    /// Add no more than the frame under way lacks.
    fn complete_partial<'a, S: FnMut(Item<'_>) -> Result<(), Fault>>(
        &mut self,
        bytes: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8], Fault> {
        let header = derp::parse_header(&self.partial);
        let wanted = header.map_or(HEADER_LEN, |(_, length)| HEADER_LEN + length) - self.partial.len();
        let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.partial.extend_from_slice(part);
        let Some((kind, length)) = derp::parse_header(&self.partial) else { return Ok(rest) };
        if header.is_none() && !self.admit(kind, length)? {
            self.partial = Vec::new();
            self.skip = length;
            sink(Item::Skipped { kind })?;
            return Ok(rest);
        }
        if self.partial.len() == HEADER_LEN + length {
            let frame = std::mem::take(&mut self.partial);
            self.emit(kind, &frame[HEADER_LEN..], sink)?;
        }
        Ok(rest)
    }

    fn emit<S: FnMut(Item<'_>) -> Result<(), Fault>>(
        &mut self,
        kind: u8,
        body: &[u8],
        sink: &mut S,
    ) -> Result<(), Fault> {
        sink(Item::Frame { kind, body })?;
        self.logged_in = true;
        Ok(())
    }

    /// Say whether a frame is one we want to see whole; pass over it otherwise.
    fn admit(&self, kind: u8, length: usize) -> Result<bool, Fault> {
        const CLIENT_INFO: u8 = FrameType::ClientInfo as u8;
        const SEND_PACKET: u8 = FrameType::SendPacket as u8;
        const NOTE_PREFERRED: u8 = FrameType::NotePreferred as u8;
        const PING: u8 = FrameType::Ping as u8;
        // These are for relays that trust each other; we have no way to prove that yet.
        const FORWARD_PACKET: u8 = FrameType::ForwardPacket as u8;
        const WATCH_CONNS: u8 = FrameType::WatchConns as u8;
        const CLOSE_PEER: u8 = FrameType::ClosePeer as u8;
        let allowed = match kind {
            CLIENT_INFO if !self.logged_in => KEY_LEN + SEAL_OVERHEAD..=MAX_LOGIN_LEN,
            FORWARD_PACKET | WATCH_CONNS | CLOSE_PEER => return Err(Fault::Protocol),
            _ if !self.logged_in => return Err(Fault::Protocol),
            SEND_PACKET => KEY_LEN..=KEY_LEN + MAX_PACKET_LEN,
            NOTE_PREFERRED => 1..=1,
            PING => 8..=MAX_PING_LEN,
            _ => return Ok(false),
        };
        if allowed.contains(&length) {
            Ok(true)
        } else {
            Err(Fault::Protocol)
        }
    }
}
