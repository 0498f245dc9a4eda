//! MACs of handshake messages, cookies, and the gate that asks for them while there are too many handshakes.
//!
//! The last 32 bytes of a handshake message are two MACs: the first proves that its sender knows our public key, the
//! second, made with a cookie that we sent to an address, that it can read what is sent to that address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::XChaCha20Poly1305;

use super::identity::Identity;
use super::primitives::{hash, Mac};

/// Bytes of a message that answers a handshake with a cookie.
pub const COOKIE_REPLY: usize = 64;
/// Bytes of both MACs.
pub const MACS: usize = 32;
/// A cookie is good for this long, for whoever made it and for whoever got it.
pub const COOKIE_AGE: Duration = Duration::from_secs(120);

const MAC: usize = 16;
const NONCE: usize = 24;

/// Handshakes by strangers' addresses that are looked at each second without asking for a cookie first.
pub(super) const ANONYMOUS_HANDSHAKES: u32 = 100;
/// Beyond those, each second: of one address (a /64 where it is IPv6) that has a cookie, and of all of them. A handshake
/// costs about 0.1 ms.
pub(super) const PROVEN_HANDSHAKES: u32 = 20;
pub(super) const ALL_PROVEN_HANDSHAKES: u32 = 1_000;
const SECOND: Duration = Duration::from_secs(1);

/// Proves an address.
pub type Cookie = [u8; MAC];

/// What signs messages to the node with this public key.
pub fn mac_key(public: &[u8; 32]) -> Mac {
    Mac::new(&hash(b"mac1----", public))
}

/// Write both MACs at the end of a handshake message; returns the first.
pub fn sign(message: &mut [u8], key: &Mac, cookie: Option<&Cookie>) -> [u8; MAC] {
    let (body, macs) = message.split_at_mut(message.len() - MACS);
    let first = key.of(&[body]);
    macs[..MAC].copy_from_slice(&first);
    macs[MAC..].copy_from_slice(&cookie.map_or([0; MAC], |cookie| Mac::new(cookie).of(&[body, &first])));
    first
}

/// Whether the first MAC of a handshake message was made with this key.
pub fn signed(message: &[u8], key: &Mac) -> bool {
    let Some((body, macs)) = message.len().checked_sub(MACS).map(|length| message.split_at(length)) else {
        return false;
    };
    key.verifies(&[body], &macs[..MAC])
}

/// Read the cookie from an answer to the message whose first MAC this is.
pub fn open(peer: &[u8; 32], mac: &[u8; MAC], reply: &[u8]) -> Option<Cookie> {
    let (nonce, sealed) = reply.get(8..COOKIE_REPLY)?.split_at(NONCE);
    let (text, tag) = sealed.split_at(MAC);
    let mut cookie: Cookie = text.try_into().ok()?;
    let cipher = XChaCha20Poly1305::new(&hash(b"cookie--", peer).into());
    cipher.decrypt_in_place_detached(nonce.into(), mac, &mut cookie, tag.into()).ok()?;
    Some(cookie)
}

/// What the gate says of a handshake initiation.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// There are too many: an answer of this length asks the sender to prove its address first.
    Cookie(usize),
    Refused,
}

/// Stands before handshakes whose sender is not known yet: reading one costs a Curve25519 multiplication, or two.
pub struct Gate {
    identity: Arc<Identity>,
    secret: [u8; 32],
    made_at: Instant,
    counted_from: Instant,
    anonymous: u32,
    proven: HashMap<IpAddr, u32>,
    all_proven: u32,
}

impl Gate {
    /// Make the gate of a node.
    pub fn new(now: Instant, identity: Arc<Identity>) -> Self {
        Self {
            secret: identity.random(),
            identity,
            made_at: now,
            counted_from: now,
            anonymous: 0,
            proven: HashMap::new(),
            all_proven: 0,
        }
    }

    /// Judge a handshake initiation; `out` holds `MAX_CONTROL` bytes.
    pub fn admit(&mut self, now: Instant, source: IpAddr, datagram: &[u8], out: &mut [u8]) -> Admission {
        if datagram.len() < 8 + MACS || !signed(datagram, &self.identity.mac_key) {
            return Admission::Refused;
        }
        if now.saturating_duration_since(self.counted_from) >= SECOND {
            (self.counted_from, self.anonymous, self.all_proven) = (now, 0, 0);
            self.proven.clear();
        }
        if self.anonymous < ANONYMOUS_HANDSHAKES {
            self.anonymous += 1;
            return Admission::Admitted;
        }
        let cookie = self.cookie(now, source);
        let (rest, mac) = datagram.split_at(datagram.len() - MAC);
        if !Mac::new(&cookie).verifies(&[rest], mac) {
            return Admission::Cookie(self.write(&cookie, datagram, out));
        }
        if self.counts(source) {
            Admission::Admitted
        } else {
            Admission::Refused
        }
    }

    /// Count a handshake from an address that is proven; false when that are too many.
    fn counts(&mut self, source: IpAddr) -> bool {
        if self.all_proven >= ALL_PROVEN_HANDSHAKES {
            return false;
        }
        let count = self.proven.entry(network(source)).or_default();
        let few = *count < PROVEN_HANDSHAKES;
        if few {
            *count += 1;
            self.all_proven += 1;
        }
        few
    }

    /// The cookie of an address. Its key changes with time, and is derived so that nothing has to be kept.
    fn cookie(&self, now: Instant, source: IpAddr) -> Cookie {
        let period = now.saturating_duration_since(self.made_at).as_secs() / COOKIE_AGE.as_secs();
        let key = hash(&self.secret, &period.to_le_bytes());
        match source {
            IpAddr::V4(address) => Mac::new(&key).of(&[&address.octets()]),
            IpAddr::V6(address) => Mac::new(&key).of(&[&address.octets()]),
        }
    }

    fn write(&self, cookie: &Cookie, datagram: &[u8], out: &mut [u8]) -> usize {
        let mac = &datagram[datagram.len() - MACS..datagram.len() - MAC];
        let nonce: [u8; NONCE] = self.identity.random();
        let mut sealed = *cookie;
        let cipher = XChaCha20Poly1305::new(&hash(b"cookie--", &self.identity.public).into());
        let tag = cipher.encrypt_in_place_detached(&nonce.into(), mac, &mut sealed);
        let tag = tag.expect("a cookie is not longer than the cipher takes");
        out[..4].copy_from_slice(&[3, 0, 0, 0]);
        out[4..8].copy_from_slice(&datagram[4..8]);
        out[8..32].copy_from_slice(&nonce);
        out[32..48].copy_from_slice(&sealed);
        out[48..COOKIE_REPLY].copy_from_slice(&tag);
        COOKIE_REPLY
    }
}

/// What counts as one source: whoever has an IPv6 address has 2^64 of them.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}
