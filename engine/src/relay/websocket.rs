//! The server's side of WebSocket framing (RFC 6455 §5): a byte stream inside binary messages.

/// Why a connection ends, as the close frame says it (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    ProtocolError = 1002,
    UnsupportedData = 1003,
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Two bytes, eight of extended length, four of mask.
const MAX_HEADER_LEN: usize = 14;
/// Control frames may not be longer (RFC 6455 §5.5).
const MAX_CONTROL_LEN: usize = 125;

/// What a piece of input turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the stream, unmasked.
    Bytes(&'a [u8]),
    /// A ping to answer with the same payload.
    Ping(Vec<u8>),
    /// The other side closes.
    Close,
}

#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    opcode: u8,
    fin: bool,
    length: usize,
    mask: [u8; 4],
}

/// Takes messages apart, however the network cut them into reads.
#[derive(Debug, Default)]
pub struct Decoder {
    /// A header of which not all has arrived.
    header: Vec<u8>,
    frame: Option<FrameHeader>,
    /// Payload bytes of `frame` seen so far.
    seen: usize,
    control: Vec<u8>,
    in_message: bool,
}

impl Decoder {
    /// Take the next piece off the front of `input`; `None` when more must be read.
    ///
    /// # Errors
    /// The other side broke the protocol; the code goes into the close frame.
    pub fn next_piece<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Piece<'a>>, CloseCode> {
        loop {
            let Some(frame) = self.frame else {
                match self.read_header(input)? {
                    Some(header) => self.begin(header)?,
                    None => return Ok(None),
                }
                continue;
            };
            let wanted = frame.length - self.seen;
            if wanted > 0 && input.is_empty() {
                return Ok(None);
            }
            let count = wanted.min(input.len());
            let (payload, rest) = std::mem::take(input).split_at_mut(count);
            *input = rest;
            unmask(payload, frame.mask, self.seen);
            self.seen += count;
            let complete = self.seen == frame.length;
            if complete {
                self.frame = None;
            }
            match frame.opcode {
                CONTINUATION | BINARY if payload.is_empty() => {}
                CONTINUATION | BINARY => return Ok(Some(Piece::Bytes(payload))),
                _ => {
                    self.control.extend_from_slice(payload);
                    if complete {
                        match (frame.opcode, std::mem::take(&mut self.control)) {
                            (CLOSE, _) => return Ok(Some(Piece::Close)),
                            (PING, payload) => return Ok(Some(Piece::Ping(payload))),
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, header: FrameHeader) -> Result<(), CloseCode> {
        match header.opcode {
            BINARY if !self.in_message => self.in_message = !header.fin,
            CONTINUATION if self.in_message => self.in_message = !header.fin,
            CLOSE | PING | PONG if header.fin && header.length <= MAX_CONTROL_LEN => {}
            1 => return Err(CloseCode::UnsupportedData),
            _ => return Err(CloseCode::ProtocolError),
        }
        self.frame = Some(header);
        self.seen = 0;
        Ok(())
    }

    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<FrameHeader>, CloseCode> {
        loop {
            if let Some(header) = parse_header(&self.header)? {
                self.header.clear();
                return Ok(Some(header));
            }
            let Some((first, rest)) = std::mem::take(input).split_first_mut() else { return Ok(None) };
            self.header.push(*first);
            *input = rest;
        }
    }
}

fn parse_header(bytes: &[u8]) -> Result<Option<FrameHeader>, CloseCode> {
    debug_assert!(bytes.len() <= MAX_HEADER_LEN);
    let Some(&[first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
    // No extension was agreed on, and a client must mask.
    if first & 0x70 != 0 || second & MASKED == 0 {
        return Err(CloseCode::ProtocolError);
    }
    let (length, rest) = match second & 0x7f {
        126 => match bytes[2..].split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match bytes[2..].split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), &bytes[2..]),
    };
    let Some(mask) = rest.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= isize::MAX as usize);
    Ok(Some(FrameHeader {
        opcode: first & 0x0f,
        fin: first & FIN != 0,
        length: length.ok_or(CloseCode::ProtocolError)?,
        mask: *mask,
    }))
}

/// Undo the mask of payload bytes of which `offset` came before. Eight bytes at a time: this runs over all data.
fn unmask(payload: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7]]);
        chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
    }
    let rest = chunks.into_remainder().iter_mut();
    rest.zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Append the header of a whole binary message of `length` bytes.
pub fn put_message_header(out: &mut Vec<u8>, length: usize) {
    put_header(out, BINARY, length);
}

/// Append the answer to a ping.
pub fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    put_header(out, PONG, payload.len());
    out.extend_from_slice(payload);
}

/// Append a close frame.
pub fn put_close(out: &mut Vec<u8>, code: CloseCode) {
    put_header(out, CLOSE, 2);
    out.extend_from_slice(&(code as u16).to_be_bytes());
}

fn put_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    out.push(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
