//! Which numbered packets came already, within a window that slides along with the highest (RFC 6479).

const BITS: u64 = 64;
const WORDS: u64 = 128;

/// A packet that so many others overtook is too old. Batches overtake each other where packets go two ways at once, by
/// the direct path and the relay: at 5 Gbit/s this is 16 ms of packets.
pub const WINDOW: u64 = (WORDS - 1) * BITS;

/// The numbers seen under one key.
pub struct Window {
    highest: u64,
    /// A ring: one word more than the window, so that a word is cleared before it is used again.
    words: [u64; WORDS as usize],
}

impl Window {
    pub fn new() -> Self {
        Self { highest: 0, words: [0; WORDS as usize] }
    }

    /// Take note of a number; false when it came before or is too old to tell.
    pub fn accept(&mut self, number: u64) -> bool {
        let word = number / BITS;
        if number > self.highest {
            let head = self.highest / BITS;
            for fresh in 1..=(word - head).min(WORDS) {
                self.words[((head + fresh) % WORDS) as usize] = 0;
            }
            self.highest = number;
        } else if self.highest - number > WINDOW {
            return false;
        }
        let (word, bit) = (&mut self.words[(word % WORDS) as usize], 1 << (number % BITS));
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}
