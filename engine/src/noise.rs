//! Damage for tests, the same on every run: bytes from a seed, and inputs changed by them.

use std::path::PathBuf;

/// A source of numbers (xorshift64*).
pub struct Noise(u64);

impl Noise {
    /// Make a source; the seed must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Bytes of no meaning.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }

    /// Change an input a little, in one to four places.
    pub fn mutate(&mut self, input: &[u8]) -> Vec<u8> {
        let mut out = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(out.len() + 1);
            match self.below(7) {
                0 if at < out.len() => out[at] ^= 1 << self.below(8),
                1 if at < out.len() => out[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => out.truncate(at),
                3 => {
                    let count = self.below(20);
                    let added = self.bytes(count);
                    out.splice(at..at, added);
                }
                4 if at < out.len() => {
                    let end = (at + 1 + self.below(20)).min(out.len());
                    out.drain(at..end);
                }
                5 if at < out.len() => {
                    let again = out[at..(at + 1 + self.below(40)).min(out.len())].to_vec();
                    out.splice(at..at, again);
                }
                _ if at + 4 <= out.len() => out[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes()),
                _ => {}
            }
        }
        out
    }
}

/// Read the inputs that stand in `engine/fuzz-corpus/<kind>`, in order of their names.
pub fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus").join(kind);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}
