//! ChaCha20-Poly1305 as WireGuard uses it: a counter for the nonce, and nothing authenticated but the text.

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305};

/// Bytes that authenticate a sealed text.
pub const TAG: usize = 16;

/// A key of one direction.
pub struct Key(LessSafeKey);

impl Key {
    /// Make a key of its bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("the cipher takes any 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seal `text` in place; the tag belongs behind it. No counter may be used twice.
    pub fn seal(&self, counter: u64, text: &mut [u8]) -> [u8; TAG] {
        let tag = self.0.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text);
        let tag = tag.expect("no packet is as long as the cipher's limit of 256 GiB");
        tag.as_ref().try_into().expect("the cipher's tags have 16 bytes")
    }

    /// Open `sealed` (a text and its tag) in place; returns the text's length, `None` when it was not sealed so.
    pub fn open(&self, counter: u64, sealed: &mut [u8]) -> Option<usize> {
        self.0.open_in_place(nonce(counter), Aad::empty(), sealed).ok().map(|text| text.len())
    }
}

/// Four zero bytes, then the counter.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_its_counter_only() {
        let key = Key::new(&[7; 32]);
        let mut text = *b"a packet, and room for the tag..................";
        let tag = key.seal(9, &mut text[..32]);
        text[32..].copy_from_slice(&tag);
        let sealed = text;
        assert_eq!(key.open(8, &mut text), None);
        text = sealed;
        assert_eq!(key.open(9, &mut text), Some(32));
        assert_eq!(&text[..9], b"a packet,");
    }

    #[test]
    fn what_is_shorter_than_a_tag_does_not_open() {
        let key = Key::new(&[7; 32]);
        for length in 0..=TAG {
            assert_eq!(key.open(0, &mut vec![0; length]), None);
        }
    }
}
