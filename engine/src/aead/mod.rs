//! ChaCha20-Poly1305 (RFC 8439) under WireGuard's nonces, many texts at once.
//!
//! One text goes to ring. Where the processor has AVX-512 with IFMA, up to eight of one length go side by side, one in
//! each 64-bit lane: a stream of full packets is sealed 1.7 times as fast as by ring, which stops at AVX2, and short ones
//! 4 times (`docs/performance.md`). No kept library does that. Neither way branches or looks anything up by a secret.

#[cfg(target_arch = "x86_64")]
mod chacha20;
#[cfg(target_arch = "x86_64")]
mod eight;
#[cfg(target_arch = "x86_64")]
mod poly1305;

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305};
use zeroize::Zeroizing;

use crate::span::Span;

/// Length of a tag in bytes.
pub const TAG: usize = 16;
/// Texts that go side by side.
pub const LANES: usize = 8;

/// A sealed text with its tag, and the number under which it was sealed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sealed<'a> {
    pub counter: u64,
    pub bytes: &'a [u8],
}

/// One key of one direction.
pub struct Key {
    one: LessSafeKey,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for the way that only x86-64 has"))]
    words: Zeroizing<[u32; 8]>,
    wide: bool,
}

impl Key {
    /// Make a key of 32 bytes, little-endian words (RFC 8439 §2.3).
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("32 bytes are a key");
        let mut words = Zeroizing::new([0; 8]);
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { one: LessSafeKey::new(key), words, wide: wide() }
    }

    /// Seal `text` in place; no two texts may have one counter.
    pub fn seal(&self, counter: u64, text: &mut [u8]) -> [u8; TAG] {
        let sealed = self.one.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text);
        let tag = sealed.expect("a packet is no 256 GB");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    /// Open a text and its tag in place; returns the text's length, or `None` when it was not sealed with this key and
    /// counter.
    pub fn open(&self, counter: u64, sealed: &mut [u8]) -> Option<usize> {
        self.one.open_in_place(nonce(counter), Aad::empty(), sealed).map(|text| text.len()).ok()
    }

    /// Seal texts in place under the counters from `first` on; each is followed by room for its tag.
    ///
    /// # Panics
    /// When a text or its tag does not stand within the slab.
    pub fn seal_many(&self, first: u64, slab: &mut [u8], texts: &[Span]) {
        let (mut rest, mut counter) = (texts, first);
        while let Some(text) = rest.first() {
            let alike = rest.iter().take(LANES).take_while(|other| other.len() == text.len()).count();
            let done = if self.worth_it(alike, text.len()) {
                self.seal_eight(counter, slab, &rest[..alike]);
                alike
            } else {
                let tag = self.seal(counter, &mut slab[text.range()]);
                slab[text.end..text.end + TAG].copy_from_slice(&tag);
                1
            };
            rest = &rest[done..];
            counter += done as u64;
        }
    }

    /// Open up to eight texts into `out`, one after the other, each with room for its tag; returns where each is, or
    /// `None` for one that was not sealed with this key and counter, whose place is then filled with zeros.
    ///
    /// # Panics
    /// When there are more than `LANES`, or `out` is shorter than all of them together.
    pub fn open_many(&self, sealed: &[Sealed<'_>], out: &mut [u8]) -> [Option<Span>; LANES] {
        assert!(sealed.len() <= LANES, "at most {LANES} at once");
        let (mut opened, mut start, mut at) = ([None; LANES], 0, 0);
        while let Some(first) = sealed.get(at) {
            let size = first.bytes.len();
            let alike = sealed[at..].iter().take_while(|other| other.bytes.len() == size).count();
            let together = size >= TAG && self.worth_it(alike, size - TAG);
            let count = if together { alike } else { 1 };
            let room = &mut out[start..start + count * size];
            let good = if together {
                self.open_eight(&sealed[at..at + count], room)
            } else {
                room.copy_from_slice(first.bytes);
                let good = self.open(first.counter, room).is_some();
                if !good {
                    room.fill(0);
                }
                u8::from(good)
            };
            for lane in 0..count {
                let place = start + lane * size;
                let text = Span { start: place, end: place + size.saturating_sub(TAG) };
                opened[at + lane] = (good >> lane & 1 == 1).then_some(text);
            }
            start += count * size;
            at += count;
        }
        opened
    }

    /// Whether so many texts of one length are done sooner side by side than one by one, by measurement.
    fn worth_it(&self, count: usize, length: usize) -> bool {
        let least = match length {
            0..=128 => 2,
            129..=512 => 4,
            _ => 5,
        };
        self.wide && count >= least
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // ring wipes nothing, so its key is written over.
        let blank = UnboundKey::new(&CHACHA20_POLY1305, &[0; 32]).expect("32 bytes are a key");
        self.one = LessSafeKey::new(blank);
        std::hint::black_box(&self.one);
    }
}

/// Four bytes of zeros and the counter, little-endian (WireGuard §5.4.6).
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Whether this processor has what the wide way needs.
#[cfg(target_arch = "x86_64")]
fn wide() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512ifma")
}

#[cfg(not(target_arch = "x86_64"))]
fn wide() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
impl Key {
    fn seal_eight(&self, first: u64, slab: &mut [u8], texts: &[Span]) {
        let length = texts[0].len();
        assert!(texts.iter().all(|text| text.len() == length && text.end + TAG <= slab.len()));
        let base = slab.as_mut_ptr();
        // Lanes that are not needed do the work of the first once more, with the same result.
        let lanes = std::array::from_fn(|lane| {
            let number = if lane < texts.len() { lane } else { 0 };
            // SAFETY: the text was just seen to stand within the slab.
            let at = unsafe { base.add(texts[number].start) };
            eight::Lane { counter: first + number as u64, source: at, target: at }
        });
        // SAFETY: `wide` was true, so the processor has the instructions; every lane's text stands within the slab.
        let tags = unsafe { eight::crypt::<true>(&self.words, &lanes, length) };
        for (text, tag) in texts.iter().zip(tags) {
            slab[text.end..text.end + TAG].copy_from_slice(&tag.to_le_bytes());
        }
    }

    /// Open texts of one size into places of that size; says by a bit each which are good.
    fn open_eight(&self, sealed: &[Sealed<'_>], out: &mut [u8]) -> u8 {
        let size = sealed[0].bytes.len();
        let length = size - TAG;
        assert!(sealed.iter().all(|text| text.bytes.len() == size) && out.len() == sealed.len() * size);
        let base = out.as_mut_ptr();
        let lanes = std::array::from_fn(|lane| {
            let number = if lane < sealed.len() { lane } else { 0 };
            // SAFETY: `out` has a place for each text.
            let target = unsafe { base.add(number * size) };
            eight::Lane { counter: sealed[number].counter, source: sealed[number].bytes.as_ptr(), target }
        });
        // SAFETY: `wide` was true, so the processor has the instructions; every source and target is `length` bytes long.
        let tags = unsafe { eight::crypt::<false>(&self.words, &lanes, length) };
        let mut good = 0;
        for (number, (text, tag)) in sealed.iter().zip(tags).enumerate() {
            let theirs: [u8; TAG] = text.bytes[length..].try_into().expect("16 bytes are left");
            // One comparison of the whole, which takes the same time wherever they differ.
            let differs = std::hint::black_box(tag ^ u128::from_le_bytes(theirs));
            if differs == 0 {
                good |= 1 << number;
            } else {
                out[number * size..(number + 1) * size].fill(0);
            }
        }
        good
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Key {
    fn seal_eight(&self, _: u64, _: &mut [u8], _: &[Span]) {
        unreachable!("`wide` is false here");
    }

    fn open_eight(&self, _: &[Sealed<'_>], _: &mut [u8]) -> u8 {
        unreachable!("`wide` is false here");
    }
}

#[cfg(test)]
mod tests;
