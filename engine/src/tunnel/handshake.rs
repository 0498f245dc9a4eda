//! The handshake, `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s`: two messages, after which both sides have two keys.
//!
//! | message | bytes |
//! |---|---|
//! | initiation | type 4, sender's index 4, Noise 108 (ephemeral, static and date sealed), MACs 32 |
//! | response | type 4, sender's index 4, receiver's index 4, Noise 48 (ephemeral, nothing sealed), MACs 32 |

use std::sync::Arc;

use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::cookie::{self, Cookie, MACS};
use super::identity::{Identity, Stamp};
use super::primitives::{Mac, Primitives};
use crate::aead;

/// Bytes of the messages.
pub const INITIATION: usize = 148;
pub const RESPONSE: usize = 92;

const NOISE: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// There is no pre-shared key; that is a key of zeros.
const NO_KEY: [u8; 32] = [0; 32];

/// The state of a handshake, wiped when it is dropped: it is enough to compute the keys.
struct Noise {
    state: Box<HandshakeState>,
    identity: Arc<Identity>,
}

impl Noise {
    fn initiator(identity: &Arc<Identity>, peer: &[u8; 32]) -> Self {
        Self::new(identity, |builder| builder.remote_public_key(peer)?.build_initiator())
    }

    fn responder(identity: &Arc<Identity>) -> Self {
        Self::new(identity, Builder::build_responder)
    }

    fn new<'a>(
        identity: &'a Arc<Identity>,
        build: impl FnOnce(Builder<'a>) -> Result<HandshakeState, snow::Error>,
    ) -> Self {
        let pattern = NOISE.parse().expect("the name of the pattern is right");
        let state = Builder::with_resolver(pattern, Box::new(Primitives(identity.clone())))
            .prologue(PROLOGUE)
            .and_then(|builder| builder.local_private_key(identity.private.as_bytes()))
            .and_then(|builder| builder.psk(2, &NO_KEY))
            .and_then(build);
        Self { state: Box::new(state.expect("all that the pattern needs is there")), identity: identity.clone() }
    }

    /// The keys after the last message: what the initiator sends with, and what the responder does.
    fn split(&mut self) -> Zeroizing<([u8; 32], [u8; 32])> {
        Zeroizing::new(self.state.dangerously_get_raw_split())
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        // `snow` wipes nothing, so its memory is written over. The key pairs and ciphers in it wipe themselves.
        let pattern = "Noise_NN_25519_ChaChaPoly_BLAKE2s".parse().expect("the name of the pattern is right");
        let blank = Builder::with_resolver(pattern, Box::new(Primitives(self.identity.clone()))).build_initiator();
        *self.state = blank.expect("the pattern needs no keys");
        std::hint::black_box(&self.state);
    }
}

/// What a handshake results in: how to seal, how to open, and the peer's index.
pub struct Secrets {
    pub sealing: aead::Key,
    pub opening: aead::Key,
    pub remote: u32,
}

/// A handshake that we began.
pub struct Initiated {
    noise: Noise,
    pub message: [u8; INITIATION],
}

impl Initiated {
    /// Begin a handshake; the peer addresses its response to `index`.
    pub fn new(identity: &Arc<Identity>, peer: &[u8; 32], index: u32, cookie: Option<&Cookie>) -> Option<Self> {
        let mut noise = Noise::initiator(identity, peer);
        let mut message = [0; INITIATION];
        message[0] = 1;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        // A peer whose public key is a point of small order can have no session.
        noise.state.write_message(&identity.stamp(), &mut message[8..INITIATION - MACS]).ok()?;
        cookie::sign(&mut message, &cookie::mac_key(peer), cookie);
        Some(Self { noise, message })
    }

    /// The first MAC of our message, which cookies answer.
    pub fn mac(&self) -> &[u8; 16] {
        self.message[INITIATION - MACS..].first_chunk().expect("two MACs end the message")
    }

    /// Read the response; `None` when the peer did not write it.
    pub fn finish(&mut self, response: &[u8]) -> Option<Secrets> {
        let remote = index(response, 4)?;
        self.noise.state.read_message(response.get(12..RESPONSE - MACS)?, &mut []).ok()?;
        let keys = self.noise.split();
        Some(Secrets { sealing: aead::Key::new(&keys.0), opening: aead::Key::new(&keys.1), remote })
    }
}

/// An initiation that was read, and proves who sent it.
pub struct Initiation {
    noise: Noise,
    key: [u8; 32],
    remote: u32,
    pub(super) stamp: Stamp,
}

impl Initiation {
    /// Read an initiation; `None` when it is not meant for us.
    pub fn read(identity: &Arc<Identity>, datagram: &[u8]) -> Option<Self> {
        if datagram.len() != INITIATION || datagram[..4] != [1, 0, 0, 0] || !cookie::signed(datagram, &identity.mac_key)
        {
            return None;
        }
        let (mut noise, mut stamp) = (Noise::responder(identity), [0; 12]);
        noise.state.read_message(&datagram[8..INITIATION - MACS], &mut stamp).ok()?;
        let key = noise.state.get_remote_static()?.try_into().ok()?;
        Some(Self { noise, key, remote: index(datagram, 4)?, stamp })
    }

    /// The public key of whoever sent it.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Write the response, to which the peer answers at `index`, into `out`. Returns the keys and the first MAC.
    pub(super) fn respond(
        mut self,
        index: u32,
        cookie: Option<&Cookie>,
        out: &mut [u8],
    ) -> Option<(Secrets, [u8; 16])> {
        let out = out.get_mut(..RESPONSE)?;
        out[..4].copy_from_slice(&[2, 0, 0, 0]);
        out[4..8].copy_from_slice(&index.to_le_bytes());
        out[8..12].copy_from_slice(&self.remote.to_le_bytes());
        self.noise.state.write_message(&[], &mut out[12..RESPONSE - MACS]).ok()?;
        let mac = cookie::sign(out, &cookie::mac_key(&self.key), cookie);
        let keys = self.noise.split();
        let (sealing, opening) = (aead::Key::new(&keys.1), aead::Key::new(&keys.0));
        Some((Secrets { sealing, opening, remote: self.remote }, mac))
    }
}

/// Whether a response is signed for us; all else about it costs more.
pub fn signed(response: &[u8], key: &Mac) -> bool {
    response.len() == RESPONSE && cookie::signed(response, key)
}

/// The number at this place of a message.
pub fn index(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*message.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::identity::Sources;
    use crate::tunnel::primitives::hash;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The private key 20 22 23 .. 40, and what other implementations compute from it before any message.
    #[test]
    fn a_handshake_begins_with_the_values_of_others() {
        let private = std::array::from_fn(|at| if at == 0 { 0x20 } else { 0x21 + at as u8 });
        let sources = Sources { random: |bytes| bytes.fill(1), wall: Default::default };
        let ours = Identity::new(&private, sources);
        assert_eq!(hex(&ours.public), "5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b");
        let noise = Noise::responder(&ours);
        let begun = hex(noise.state.get_handshake_hash());
        assert_eq!(begun, "e991030defb72f2c551e33ca34cbaf94d903524dd32c522f15decb3753abcc4e");
        let (mac, cookie) = (hash(b"mac1----", &ours.public), hash(b"cookie--", &ours.public));
        assert_eq!(hex(&mac), "5c5cbbfd0c782a2539047315dc2b629f825570bc6a8686d245dd060463b85e1b");
        assert_eq!(hex(&cookie), "17728e626505a9a7054fda9a980a5209fb72714de5d9e476848ec7214cc83713");
    }
}
