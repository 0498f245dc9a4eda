//! Disco: the sealed messages by which two nodes find direct paths to each other.

use std::net::SocketAddr;

use super::keys::{Key, Nonce, SharedKey, KEY_LEN, SEAL_OVERHEAD, TAG_LEN};
use super::{address_from_bytes, address_to_bytes, ADDRESS_LEN};

/// First bytes of every disco packet.
pub const MAGIC: [u8; 6] = *b"TS\xf0\x9f\x92\xac";
/// Magic, the sender's disco key and the nonce.
const HEADER_LEN: usize = MAGIC.len() + KEY_LEN + 24;
const TXID_LEN: usize = 12;
/// Pings and pongs are padded to this, so that the packet (1,310 bytes) proves that a full tunnel packet fits.
const PADDED_BODY_LEN: usize = 1230;

/// No packet of ours is longer than a datagram may be.
const MAX_INNER_LEN: usize = 65_000;

const PING: u8 = 1;
const PONG: u8 = 2;
const CALL_ME_MAYBE: u8 = 3;

/// Names one ping; its pong carries it back.
pub type TxId = [u8; TXID_LEN];

/// What is inside the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// "Do you hear me here?" `node_key` names the sender where the sender chose to.
    Ping { txid: TxId, node_key: Option<Key> },
    /// "I heard you, and saw you as `observed`."
    Pong { txid: TxId, observed: SocketAddr },
    /// "Ping me at these"; sent by relay only.
    CallMeMaybe { endpoints: Vec<SocketAddr> },
}

/// Say whether a packet is disco's: such a packet is never treated as anything else, even when it does not open.
pub fn is_disco(packet: &[u8]) -> bool {
    packet.len() >= HEADER_LEN && packet.starts_with(&MAGIC)
}

/// Read who claims to have sent a disco packet; `None` when it is not one.
pub fn sender(packet: &[u8]) -> Option<Key> {
    if !is_disco(packet) {
        return None;
    }
    packet[MAGIC.len()..].first_chunk().copied()
}

/// Seal a message for the holder of the other key; `own_disco` is our public disco key. Pings and pongs get the usual
/// length, which proves that a full tunnel packet fits.
pub fn seal(shared: &SharedKey, own_disco: &Key, nonce: &Nonce, message: &Message) -> Vec<u8> {
    seal_inner(shared, own_disco, nonce, &encode(message))
}

/// Seal a ping or pong into a packet of `length` bytes, or as few as it takes; anything else as it is.
pub fn seal_sized(shared: &SharedKey, own_disco: &Key, nonce: &Nonce, message: &Message, length: usize) -> Vec<u8> {
    let mut inner = encode(message);
    let (needed, wanted) = (needed(message), length.saturating_sub(HEADER_LEN + TAG_LEN));
    if let Some(needed) = needed {
        inner.resize(wanted.clamp(needed, MAX_INNER_LEN), 0);
    }
    seal_inner(shared, own_disco, nonce, &inner)
}

/// Bytes of a message without padding, if it may have any.
fn needed(message: &Message) -> Option<usize> {
    match message {
        Message::Ping { node_key, .. } => Some(2 + TXID_LEN + node_key.map_or(0, |key| key.len())),
        Message::Pong { .. } => Some(2 + TXID_LEN + ADDRESS_LEN),
        Message::CallMeMaybe { .. } => None,
    }
}

fn seal_inner(shared: &SharedKey, own_disco: &Key, nonce: &Nonce, inner: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(MAGIC.len() + KEY_LEN + SEAL_OVERHEAD + inner.len());
    packet.extend_from_slice(&MAGIC);
    packet.extend_from_slice(own_disco);
    shared.seal_into(&mut packet, nonce, inner);
    packet
}

/// Open a packet whose `sender` shares this key with us; `None` when forged, or of a kind we do not know.
pub fn open(shared: &SharedKey, packet: &[u8]) -> Option<Message> {
    sender(packet)?;
    decode(&shared.open(&packet[MAGIC.len() + KEY_LEN..])?)
}

/// Write a message as it is before sealing.
pub fn encode(message: &Message) -> Vec<u8> {
    match message {
        Message::Ping { txid, node_key } => {
            let mut inner = vec![PING, 1];
            inner.extend_from_slice(txid);
            inner.extend_from_slice(node_key.as_ref().map_or(&[][..], |key| &key[..]));
            padded(inner)
        }
        Message::Pong { txid, observed } => {
            let mut inner = vec![PONG, 1];
            inner.extend_from_slice(txid);
            inner.extend_from_slice(&address_to_bytes(*observed));
            padded(inner)
        }
        Message::CallMeMaybe { endpoints } => {
            let mut inner = vec![CALL_ME_MAYBE, 0];
            endpoints.iter().for_each(|endpoint| inner.extend_from_slice(&address_to_bytes(*endpoint)));
            inner
        }
    }
}

fn padded(mut inner: Vec<u8>) -> Vec<u8> {
    inner.resize(2 + PADDED_BODY_LEN, 0);
    inner
}

/// Read an opened message; `None` when it is too short or of a kind we do not know.
///
/// The version of pings and pongs is not looked at, and what follows the known fields is ignored: other
/// implementations send version 0 without padding. A malformed call-me-maybe reads as an empty one.
pub fn decode(inner: &[u8]) -> Option<Message> {
    let (&[kind, version], body) = inner.split_first_chunk::<2>()?;
    match kind {
        PING => {
            let (txid, rest) = body.split_first_chunk::<TXID_LEN>()?;
            // All zeros is padding, not a key.
            let node_key = rest.first_chunk::<KEY_LEN>().copied().filter(|key| key.iter().any(|byte| *byte != 0));
            Some(Message::Ping { txid: *txid, node_key })
        }
        PONG => {
            let (txid, rest) = body.split_first_chunk::<TXID_LEN>()?;
            let observed = address_from_bytes(rest.first_chunk::<ADDRESS_LEN>()?);
            Some(Message::Pong { txid: *txid, observed })
        }
        CALL_ME_MAYBE => {
            let well_formed = version == 0 && body.len() % ADDRESS_LEN == 0;
            let addresses = if well_formed { body } else { &[] };
            let endpoints = addresses
                .chunks_exact(ADDRESS_LEN)
                .filter_map(|chunk| chunk.first_chunk::<ADDRESS_LEN>())
                .map(address_from_bytes)
                .collect();
            Some(Message::CallMeMaybe { endpoints })
        }
        _ => None,
    }
}
