//! WireGuard sessions: one `Session` per peer, and the `Gate` before strangers' handshakes. Pure: time is passed in.
//!
//! | file | what |
//! |---|---|
//! | `session` | which keys are used, when they are renewed, what waits for them |
//! | `handshake` | the two messages after which both sides have keys, around `snow` |
//! | `keys` | the keys of one handshake: their age, their numbers |
//! | `replay` | which numbers came already |
//! | `cookie` | MACs of handshake messages, cookies, the gate |
//! | `identity` | our own keys; where random bytes and the time of day come from |
//! | `primitives` | the kept crates' curve, hash and cipher, as `snow` takes them |

mod cookie;
mod handshake;
mod identity;
mod keys;
mod primitives;
mod replay;
mod session;
pub mod tsmp;

pub use cookie::{Admission, Gate};
pub use handshake::Initiation;
pub use identity::{Identity, Sources};
pub use session::{Sending, Session};

/// A sealed packet is this much longer than the inner packet.
pub const OVERHEAD: usize = 32;

/// Length of what stands before the sealed part of a data message.
pub const HEADER: usize = 16;

/// No message that a session writes by itself (handshakes, cookies, keepalives) is longer than this.
pub const MAX_CONTROL: usize = 148;

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// An inner packet of this length was written to the buffer.
    Packet(usize),
    /// A message of this length was written to the buffer and must be sent back to the peer.
    Reply(usize),
    /// It was valid, and there is nothing to do (a keepalive).
    Nothing,
    /// It was not for this session, replayed, or forged.
    Rejected,
}

/// What the first bytes of a WireGuard message say about whom it is for.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Addressee {
    /// A handshake initiation: only the static key inside tells who sent it.
    Unknown,
    /// The session with this index.
    Session(u32),
}

/// Say which session a WireGuard message is for; `None` when it is no WireGuard message.
pub fn addressee(datagram: &[u8]) -> Option<Addressee> {
    let index = |at: usize| -> Option<Addressee> {
        let bytes: [u8; 4] = datagram.get(at..at + 4)?.try_into().ok()?;
        Some(Addressee::Session(u32::from_le_bytes(bytes) >> 8))
    };
    match (datagram.get(..4)?, datagram.len()) {
        ([1, 0, 0, 0], 148) => Some(Addressee::Unknown),
        ([2, 0, 0, 0], 92) => index(8),
        ([3, 0, 0, 0], 64) => index(4),
        ([4, 0, 0, 0], 32..) => index(4),
        _ => None,
    }
}

/// What stands in a data message before the part that is sealed (WireGuard §5.4.6).
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct DataHeader {
    /// The receiver's number for its keys.
    pub receiver: u32,
    pub counter: u64,
}

impl DataHeader {
    /// Read the header of a data message; `None` for anything else.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let ([4, 0, 0, 0, rest @ ..], OVERHEAD..) = (datagram, datagram.len()) else { return None };
        let (receiver, rest) = rest.split_first_chunk()?;
        Some(Self { receiver: u32::from_le_bytes(*receiver), counter: u64::from_le_bytes(*rest.first_chunk()?) })
    }

    /// Write it to the first `HEADER` bytes.
    pub fn write(&self, message: &mut [u8]) {
        message[..4].copy_from_slice(&[4, 0, 0, 0]);
        message[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        message[8..HEADER].copy_from_slice(&self.counter.to_le_bytes());
    }
}

/// Whether a message of ours begins a handshake.
pub fn initiates(message: &[u8]) -> bool {
    message.len() == MAX_CONTROL && message[0] == 1
}

/// The length of the IP packet in front of what was opened, which may be padded; `None` when there is none.
pub fn inner_length(packet: &[u8]) -> Option<usize> {
    let field = |at: usize| Some(usize::from(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
    let length = match packet.first()? >> 4 {
        4 if packet.len() >= 20 => field(2)?,
        6 if packet.len() >= 40 => field(4)? + 40,
        _ => return None,
    };
    (length <= packet.len()).then_some(length)
}

#[cfg(test)]
mod tests;
