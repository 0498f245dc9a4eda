//! The client's side of RFC 6455, as far as a relay connection needs it: binary messages as a stream of bytes.

const BINARY: u8 = 0x82;
const PONG: u8 = 0x8a;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// Longest header of a frame.
const MAX_HEADER: usize = 10;
/// A control frame carries at most this much (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// The server broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// Write `payload` as one masked frame to `out`.
pub fn encode(kind: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(kind);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    for (byte, key) in out[start..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Write `payload` as one binary message.
pub fn binary(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode(BINARY, payload, mask, out);
}

/// Takes frames apart, however the network cut them.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of the present data frame that have not come yet.
    left: u64,
}

/// What a piece of input brought besides data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Frames to send back, still to be masked: the payloads of pongs.
    pub pongs: Vec<Vec<u8>>,
    pub closed: bool,
}

impl Decoder {
    /// Append the data in `input` to `data`.
    pub fn feed(&mut self, input: &[u8], data: &mut Vec<u8>) -> Result<Notes, Broken> {
        self.buffer.extend_from_slice(input);
        let (mut notes, mut at) = (Notes::default(), 0);
        loop {
            let rest = &self.buffer[at..];
            if self.left > 0 {
                let take = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                data.extend_from_slice(&rest[..take]);
                self.left -= take as u64;
                at += take;
                if self.left > 0 {
                    break;
                }
                continue;
            }
            let Some((kind, length, header)) = header(rest)? else { break };
            if kind & 8 == 0 {
                at += header;
                self.left = length;
                continue;
            }
            let length = length as usize;
            if length > MAX_CONTROL {
                return Err(Broken("a control frame is too long"));
            }
            let Some(payload) = rest.get(header..header + length) else { break };
            match kind {
                PING => notes.pongs.push(payload.to_vec()),
                CLOSE => notes.closed = true,
                _ => {}
            }
            at += header + length;
        }
        self.buffer.drain(..at);
        Ok(notes)
    }
}

/// Read a frame's header: opcode, payload length, header length.
fn header(bytes: &[u8]) -> Result<Option<(u8, u64, usize)>, Broken> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(Broken("the server masks its frames"));
    }
    if first & 0x70 != 0 {
        return Err(Broken("the server uses an extension nobody offered"));
    }
    let (length, header) = match (second, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, rest) if rest.len() >= 8 => {
            let mut length = [0; 8];
            length.copy_from_slice(&rest[..8]);
            (u64::from_be_bytes(length), MAX_HEADER)
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (u64::from(*length), 2),
    };
    Ok(Some((first & 0x0f, length, header)))
}

/// A masked pong.
pub fn pong(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode(PONG, payload, mask, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_section_5_7_examples() {
        let mut out = Vec::new();
        encode(0x81, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        let mut data = Vec::new();
        let notes = Decoder::default().feed(&[0x82, 5, b'H', b'e', b'l', b'l', b'o'], &mut data);
        assert_eq!((notes, &data[..]), (Ok(Notes::default()), &b"Hello"[..]));
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        let mut stream = vec![0x02, 3, 1, 2, 3, 0x89, 2, 7, 8, 0x80, 126, 1, 44];
        stream.extend(std::iter::repeat_n(9, 300));
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend(std::iter::repeat_n(4, 65536));
        stream.extend([0x88, 0]);
        for size in [1, 2, 3, 7, 1000, stream.len()] {
            let (mut decoder, mut data, mut pongs, mut closed) = (Decoder::default(), Vec::new(), Vec::new(), false);
            for piece in stream.chunks(size) {
                let notes = decoder.feed(piece, &mut data).expect("valid frames");
                pongs.extend(notes.pongs);
                closed |= notes.closed;
            }
            assert_eq!((data.len(), pongs, closed), (3 + 300 + 65536, vec![vec![7, 8]], true));
        }
    }

    #[test]
    fn a_masked_or_oversized_frame_is_an_error() {
        for bytes in [&[0x82, 0x85, 1, 2, 3, 4][..], &[0xc2, 1], &[0x89, 126, 1, 0]] {
            assert!(Decoder::default().feed(bytes, &mut Vec::new()).is_err());
        }
    }
}
