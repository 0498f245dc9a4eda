//! DERP frames: what a relay and its clients say to each other.

use serde::{Deserialize, Serialize};

use super::keys::{Key, Nonce, SharedKey, KEY_LEN, NONCE_LEN, SEAL_OVERHEAD, TAG_LEN};

/// First bytes of a relay's greeting: "DERP" and a key.
pub const MAGIC: [u8; 8] = *b"DERP\xf0\x9f\x94\x91";
/// The only version there is.
pub const PROTOCOL_VERSION: u32 = 2;
/// Type and length in front of every frame.
pub const HEADER_LEN: usize = 5;
/// A relayed packet may not be longer, keys not counted.
pub const MAX_PACKET_LEN: usize = 64 << 10;
/// Limit of a client's login.
pub const MAX_CLIENT_INFO_LEN: usize = 256 << 10;
/// Limit of anything that a client reads.
pub const MAX_FRAME_LEN: usize = 1 << 20;

/// The kinds of frame, by their number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    ServerKey = 0x01,
    ClientInfo = 0x02,
    ServerInfo = 0x03,
    SendPacket = 0x04,
    RecvPacket = 0x05,
    KeepAlive = 0x06,
    NotePreferred = 0x07,
    PeerGone = 0x08,
    PeerPresent = 0x09,
    ForwardPacket = 0x0a,
    WatchConns = 0x10,
    ClosePeer = 0x11,
    Ping = 0x12,
    Pong = 0x13,
    Health = 0x14,
    Restarting = 0x15,
}

/// Why a peer cannot be reached through this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GoneReason {
    /// It was connected and left.
    Disconnected = 0,
    /// This relay does not know it.
    NotHere = 1,
}

/// One frame; packets and sealed parts are borrowed from the buffer they were read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    ServerKey {
        key: Key,
    },
    ClientInfo {
        key: Key,
        sealed: &'a [u8],
    },
    ServerInfo {
        sealed: &'a [u8],
    },
    SendPacket {
        to: Key,
        packet: &'a [u8],
    },
    RecvPacket {
        from: Key,
        packet: &'a [u8],
    },
    KeepAlive,
    NotePreferred {
        home: bool,
    },
    PeerGone {
        key: Key,
        reason: GoneReason,
    },
    PeerPresent {
        key: Key,
    },
    ForwardPacket {
        from: Key,
        to: Key,
        packet: &'a [u8],
    },
    WatchConns,
    ClosePeer {
        key: Key,
    },
    Ping([u8; 8]),
    Pong([u8; 8]),
    /// A problem in words for a person; empty when all is well again.
    Health(&'a str),
    Restarting {
        reconnect_in_ms: u32,
        try_for_ms: u32,
    },
    /// A frame of a kind that we do not know, or one that the rules say to pass over.
    Unknown(u8),
}

/// What is wrong with a frame: reason enough to close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It announced more bytes than its kind may have.
    TooLong { kind: u8, length: usize },
    /// It has fewer bytes than its kind needs.
    TooShort { kind: u8, length: usize },
    /// The greeting does not start with the magic.
    NotDerp,
    /// A login or its answer does not open, or is not what it should be.
    BadLogin,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong { kind, length } => write!(formatter, "frame {kind:#04x} of {length} bytes is too long"),
            Self::TooShort { kind, length } => write!(formatter, "frame {kind:#04x} of {length} bytes is too short"),
            Self::NotDerp => formatter.write_str("this is not a DERP relay"),
            Self::BadLogin => formatter.write_str("the login could not be opened or understood"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Write the header of a frame.
pub fn header(kind: FrameType, length: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// Append a frame to `out`.
pub fn encode(out: &mut Vec<u8>, frame: &Frame<'_>) {
    use FrameType as T;
    match frame {
        Frame::ServerKey { key } => put(out, T::ServerKey, &[&MAGIC, key]),
        Frame::ClientInfo { key, sealed } => put(out, T::ClientInfo, &[key, sealed]),
        Frame::ServerInfo { sealed } => put(out, T::ServerInfo, &[sealed]),
        Frame::SendPacket { to, packet } => put(out, T::SendPacket, &[to, packet]),
        Frame::RecvPacket { from, packet } => put(out, T::RecvPacket, &[from, packet]),
        Frame::KeepAlive => put(out, T::KeepAlive, &[]),
        Frame::NotePreferred { home } => put(out, T::NotePreferred, &[&[u8::from(*home)]]),
        Frame::PeerGone { key, reason } => put(out, T::PeerGone, &[key, &[*reason as u8]]),
        Frame::PeerPresent { key } => put(out, T::PeerPresent, &[key]),
        Frame::ForwardPacket { from, to, packet } => put(out, T::ForwardPacket, &[from, to, packet]),
        Frame::WatchConns => put(out, T::WatchConns, &[]),
        Frame::ClosePeer { key } => put(out, T::ClosePeer, &[key]),
        Frame::Ping(payload) => put(out, T::Ping, &[payload]),
        Frame::Pong(payload) => put(out, T::Pong, &[payload]),
        Frame::Health(text) => put(out, T::Health, &[text.as_bytes()]),
        Frame::Restarting { reconnect_in_ms, try_for_ms } => {
            put(out, T::Restarting, &[&reconnect_in_ms.to_be_bytes(), &try_for_ms.to_be_bytes()]);
        }
        Frame::Unknown(_) => {}
    }
}

fn put(out: &mut Vec<u8>, kind: FrameType, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum();
    out.reserve(HEADER_LEN + length);
    out.extend_from_slice(&header(kind, length));
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Read the header at the start of `buffer`: kind, and length of what follows. `None` until all of it is there.
pub fn parse_header(buffer: &[u8]) -> Option<(u8, usize)> {
    let &[kind, a, b, c, d] = buffer.first_chunk::<HEADER_LEN>()?;
    Some((kind, u32::from_be_bytes([a, b, c, d]) as usize))
}

/// Say how long a frame of `kind` may be.
pub fn limit(kind: u8) -> usize {
    const SEND: u8 = FrameType::SendPacket as u8;
    const RECEIVE: u8 = FrameType::RecvPacket as u8;
    const FORWARD: u8 = FrameType::ForwardPacket as u8;
    const LOGIN: u8 = FrameType::ClientInfo as u8;
    match kind {
        SEND | RECEIVE => KEY_LEN + MAX_PACKET_LEN,
        FORWARD => 2 * KEY_LEN + MAX_PACKET_LEN,
        LOGIN => MAX_CLIENT_INFO_LEN,
        _ => MAX_FRAME_LEN,
    }
}

/// Read the body of a frame. Longer bodies than needed are fine: later versions may add to them.
///
/// # Errors
/// The frame is one that closes the connection.
pub fn parse(kind: u8, body: &[u8]) -> Result<Frame<'_>, Malformed> {
    let short = Malformed::TooShort { kind, length: body.len() };
    let key_first = || body.split_first_chunk::<KEY_LEN>().map(|(key, rest)| (*key, rest));
    Ok(match kind {
        0x01 => {
            let (magic, rest) = body.split_first_chunk::<8>().ok_or(short)?;
            let key = *rest.first_chunk().ok_or(short)?;
            if *magic != MAGIC {
                return Err(Malformed::NotDerp);
            }
            Frame::ServerKey { key }
        }
        0x02 => {
            let (key, sealed) = key_first().filter(|(_, rest)| rest.len() >= NONCE_LEN).ok_or(short)?;
            Frame::ClientInfo { key, sealed }
        }
        0x03 if body.len() >= SEAL_OVERHEAD => Frame::ServerInfo { sealed: body },
        0x03 => return Err(short),
        0x04 => key_first().map(|(to, packet)| Frame::SendPacket { to, packet }).ok_or(short)?,
        0x05 => key_first().map_or(Frame::Unknown(kind), |(from, packet)| Frame::RecvPacket { from, packet }),
        0x06 => Frame::KeepAlive,
        0x07 => match body {
            [home] => Frame::NotePreferred { home: *home != 0 },
            [] => return Err(short),
            _ => return Err(Malformed::TooLong { kind, length: body.len() }),
        },
        0x08 => key_first().map_or(Frame::Unknown(kind), |(key, rest)| Frame::PeerGone {
            key,
            // Old relays give no reason.
            reason: if rest.first() == Some(&1) { GoneReason::NotHere } else { GoneReason::Disconnected },
        }),
        0x09 => key_first().map_or(Frame::Unknown(kind), |(key, _)| Frame::PeerPresent { key }),
        0x0a => {
            let (from, rest) = key_first().ok_or(short)?;
            let (to, packet) = rest.split_first_chunk::<KEY_LEN>().ok_or(short)?;
            Frame::ForwardPacket { from, to: *to, packet }
        }
        0x10 => Frame::WatchConns,
        0x11 => key_first().map(|(key, _)| Frame::ClosePeer { key }).ok_or(short)?,
        0x12 => body.first_chunk().map_or(Frame::Unknown(kind), |payload| Frame::Ping(*payload)),
        0x13 => body.first_chunk().map_or(Frame::Unknown(kind), |payload| Frame::Pong(*payload)),
        0x14 => std::str::from_utf8(body).map_or(Frame::Unknown(kind), Frame::Health),
        0x15 => restarting(body).unwrap_or(Frame::Unknown(kind)),
        _ => Frame::Unknown(kind),
    })
}

fn restarting(body: &[u8]) -> Option<Frame<'_>> {
    let (reconnect_in, rest) = body.split_first_chunk::<4>()?;
    let try_for = rest.first_chunk::<4>()?;
    Some(Frame::Restarting {
        reconnect_in_ms: u32::from_be_bytes(*reconnect_in),
        try_for_ms: u32::from_be_bytes(*try_for),
    })
}

/// Cuts a byte stream into frames, however the network cut it into reads.
///
/// ```text
/// decoder.feed(bytes); while let Some(frame) = decoder.next_frame()? { … }
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Make a decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Take the next whole frame; `None` until more was fed.
    ///
    /// # Errors
    /// The frame is one that closes the connection.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        let unread = &self.buffer[self.taken..];
        let Some((kind, length)) = parse_header(unread) else {
            return Ok(None);
        };
        if length > limit(kind) {
            return Err(Malformed::TooLong { kind, length });
        }
        let Some(body) = unread[HEADER_LEN..].get(..length) else {
            return Ok(None);
        };
        self.taken += HEADER_LEN + length;
        parse(kind, body).map(Some)
    }

    /// Say how many bytes wait for the rest of their frame.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.taken
    }
}

/// What a client tells of itself when it logs in. Go reads names in any case, so the likely spellings are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    #[serde(default, alias = "Version", skip_serializing_if = "is_zero")]
    pub version: u32,
    #[serde(
        default,
        rename = "meshKey",
        alias = "MeshKey",
        alias = "meshkey",
        skip_serializing_if = "String::is_empty"
    )]
    pub mesh_key: String,
    #[serde(default, rename = "CanAckPings", alias = "canAckPings", alias = "canackpings")]
    pub can_ack_pings: bool,
    #[serde(default, rename = "IsProber", alias = "isProber", skip_serializing_if = "std::ops::Not::not")]
    pub is_prober: bool,
}

/// What a relay tells of itself after the login: a rate limit where both numbers are above zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    #[serde(default, alias = "Version", skip_serializing_if = "is_zero")]
    pub version: u32,
    #[serde(default, rename = "TokenBucketBytesPerSecond", skip_serializing_if = "is_zero")]
    pub bytes_per_second: u32,
    #[serde(default, rename = "TokenBucketBytesBurst", skip_serializing_if = "is_zero")]
    pub bytes_burst: u32,
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Append the login of the client with public key `own` to `out`.
pub fn put_client_info(out: &mut Vec<u8>, shared: &SharedKey, own: &Key, nonce: &Nonce, info: &ClientInfo) {
    let json = serde_json::to_vec(info).expect("a struct of plain fields is always JSON");
    out.extend_from_slice(&header(FrameType::ClientInfo, KEY_LEN + SEAL_OVERHEAD + json.len()));
    out.extend_from_slice(own);
    shared.seal_into(out, nonce, &json);
}

/// Open the login of a client.
///
/// # Errors
/// The sender does not hold the key it names, or did not send a login.
pub fn open_client_info(shared: &SharedKey, sealed: &[u8]) -> Result<ClientInfo, Malformed> {
    let json = shared.open(sealed).ok_or(Malformed::BadLogin)?;
    serde_json::from_slice(&json).map_err(|_| Malformed::BadLogin)
}

/// Append a relay's answer to a login to `out`.
pub fn put_server_info(out: &mut Vec<u8>, shared: &SharedKey, nonce: &Nonce, info: &ServerInfo) {
    let json = serde_json::to_vec(info).expect("a struct of plain fields is always JSON");
    out.extend_from_slice(&header(FrameType::ServerInfo, NONCE_LEN + TAG_LEN + json.len()));
    shared.seal_into(out, nonce, &json);
}

/// Open a relay's answer to our login.
///
/// # Errors
/// The relay does not hold the key it greeted us with, or did not send an answer.
pub fn open_server_info(shared: &SharedKey, sealed: &[u8]) -> Result<ServerInfo, Malformed> {
    let json = shared.open(sealed).ok_or(Malformed::BadLogin)?;
    serde_json::from_slice(&json).map_err(|_| Malformed::BadLogin)
}
