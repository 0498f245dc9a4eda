//! Curve25519 keys and the box that two of them seal messages in.

use std::fmt;

use crypto_box::aead::AeadInPlace;
use crypto_box::{PublicKey, SalsaBox, SecretKey, Tag};

/// Bytes of a key, private or public.
pub const KEY_LEN: usize = 32;
/// Bytes of the nonce in front of every sealed message.
pub const NONCE_LEN: usize = 24;
/// Bytes of the authenticator.
pub const TAG_LEN: usize = 16;
/// How much longer a sealed message is than the message.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// A public key as it travels.
pub type Key = [u8; KEY_LEN];
/// A number used once for each sealed message.
pub type Nonce = [u8; NONCE_LEN];

/// Clamp random bytes into a Curve25519 private key.
pub fn clamp(mut private: Key) -> Key {
    private[0] &= 248;
    private[31] = (private[31] & 127) | 64;
    private
}

/// Derive the public key of a private one.
pub fn public_key(private: &Key) -> Key {
    SecretKey::from(*private).public_key().to_bytes()
}

/// What two key pairs have in common: seals and opens messages between them.
///
/// Making one costs a Curve25519 multiplication, so it is kept for as long as the peer is known.
pub struct SharedKey(SalsaBox);

impl SharedKey {
    /// Compute what `private` shares with the holder of `public`.
    pub fn new(private: &Key, public: &Key) -> Self {
        Self(SalsaBox::new(&PublicKey::from(*public), &SecretKey::from(*private)))
    }

    /// Append nonce, authenticator and ciphertext of `message` to `out`.
    pub fn seal_into(&self, out: &mut Vec<u8>, nonce: &Nonce, message: &[u8]) {
        out.reserve(SEAL_OVERHEAD + message.len());
        out.extend_from_slice(nonce);
        let tag_at = out.len();
        out.extend_from_slice(&[0; TAG_LEN]);
        out.extend_from_slice(message);
        let (tag_space, body) = out[tag_at..].split_at_mut(TAG_LEN);
        let tag = self
            .0
            .encrypt_in_place_detached(nonce.into(), b"", body)
            .expect("a box takes any message when there is no associated data");
        tag_space.copy_from_slice(&tag);
    }

    /// Open what `seal_into` appended; `None` when it was not sealed by the other key.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (tag, ciphertext) = rest.split_first_chunk::<TAG_LEN>()?;
        let mut message = ciphertext.to_vec();
        self.0.decrypt_in_place_detached(nonce.into(), b"", &mut message, Tag::from_slice(tag)).ok()?;
        Some(message)
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SharedKey(<secret>)")
    }
}

/// Write a key as logs show it: the first ten hex digits.
pub fn short(key: &Key) -> String {
    key.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}
