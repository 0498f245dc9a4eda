//! The primitives that the Noise handshake is made of, from kept crates, as `snow` wants to have them.
//!
//! They are handed to it from here, and not chosen by its features, so that randomness comes from one place, keys are
//! wiped when they are dropped, and a peer's point of small order (which makes a shared secret that everybody knows) is
//! refused.

use std::sync::Arc;

use blake2::digest::consts::U16;
use blake2::digest::Mac as _;
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::identity::Identity;

const TAG: usize = 16;

/// BLAKE2s of two parts.
pub fn hash(label: &[u8], data: &[u8]) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(data).finalize().into()
}

/// Keyed BLAKE2s with 16 bytes, ready for a message.
#[derive(Clone)]
pub struct Mac(Blake2sMac<U16>);

impl Mac {
    /// Make it of a key of at most 32 bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(KeyInit::new_from_slice(key).expect("all keys here have at most 32 bytes"))
    }

    /// Compute it over the parts.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 16] {
        self.fed(parts).finalize().into_bytes().into()
    }

    /// Compare it in constant time.
    pub fn verifies(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.fed(parts).verify_slice(mac).is_ok()
    }

    fn fed(&self, parts: &[&[u8]]) -> Blake2sMac<U16> {
        parts.iter().fold(self.0.clone(), |mac, part| mac.chain_update(part))
    }
}

/// Hands the primitives to `snow`.
pub struct Primitives(pub Arc<Identity>);

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Source(self.0.clone())))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Curve { identity: self.0.clone(), private: StaticSecret::from([0; 32]), public: [0; 32] }))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::<Blake>::default())
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::<ChaCha>::default())
    }
}

struct Source(Arc<Identity>);

impl Random for Source {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// A Curve25519 key pair.
struct Curve {
    identity: Arc<Identity>,
    private: StaticSecret,
    public: [u8; 32],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// Take our own key pair: no other is ever set.
    fn set(&mut self, private: &[u8]) {
        debug_assert_eq!(private, self.identity.private.as_bytes());
        (self.private, self.public) = (self.identity.private.clone(), self.identity.public);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *bytes)?;
        self.private = StaticSecret::from(*bytes);
        self.public = PublicKey::from(&self.private).to_bytes();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_bytes()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; 32] = public.get(..32).and_then(|public| public.try_into().ok()).ok_or(Error::Dh)?;
        let shared = self.private.diffie_hellman(&PublicKey::from(public));
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out[..32].copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct Blake(Blake2s256);

impl Hash for Blake {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        Digest::reset(&mut self.0);
    }

    fn input(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

/// The cipher of handshakes; that of packets is in `aead`.
#[derive(Default)]
struct ChaCha(Zeroizing<[u8; 32]>);

impl ChaCha {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

impl Cipher for ChaCha {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        *self.0 = *key;
    }

    fn encrypt(&self, counter: u64, aad: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let (body, rest) = out.split_at_mut(text.len());
        body.copy_from_slice(text);
        let tag = self.cipher().encrypt_in_place_detached(&nonce(counter).into(), aad, body);
        rest[..TAG].copy_from_slice(&tag.expect("no message of a handshake is longer than the cipher takes"));
        text.len() + TAG
    }

    fn decrypt(&self, counter: u64, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (text, tag) = sealed.split_at(sealed.len().checked_sub(TAG).ok_or(Error::Decrypt)?);
        let body = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        body.copy_from_slice(text);
        let opened = self.cipher().decrypt_in_place_detached(&nonce(counter).into(), aad, body, tag.into());
        opened.map(|()| text.len()).map_err(|_| Error::Decrypt)
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}
