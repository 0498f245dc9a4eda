//! Poly1305 (RFC 8439 §2.5) of eight messages at once: one in each 64-bit lane, each with a key of its own.
//!
//! Numbers modulo 2^130 - 5 are three limbs of 44, 44 and 42 bits, so that the products of the 52-bit multiplier can be
//! added up before anything is carried. What lies above 2^132 comes back multiplied by 20, what lies above 2^130 by 5.

use std::arch::x86_64::*;

use super::LANES;

/// Three limbs in each lane, or what becomes of them.
type Limbs = [__m512i; 3];

const LOW_44: u64 = (1 << 44) - 1;
const LOW_42: u64 = (1 << 42) - 1;
/// Bits of the key's first half that are kept (RFC 8439 §2.5.1).
const CLAMP: [u64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

/// Something to multiply by.
#[derive(Clone, Copy)]
struct Factor {
    limbs: Limbs,
    /// Limbs 1 and 2 twenty times.
    folded: [__m512i; 2],
}

/// Eight messages under way.
pub struct Poly1305 {
    sum: Limbs,
    r: Factor,
    r_squared: Factor,
    pad: [__m512i; 2],
}

impl Poly1305 {
    /// Begin with the keys' four 64-bit words, each entry one word of all lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn new(key: [__m512i; 4]) -> Self {
        let clamped = [0, 1].map(|word| _mm512_and_si512(key[word], all(CLAMP[word])));
        let r = Factor::new(limbs(clamped));
        let r_squared = Factor::new(carried(product(r.limbs, &r)));
        Self { sum: [_mm512_setzero_si512(); 3], r, r_squared, pad: [key[2], key[3]] }
    }

    /// Add one 16-byte block of each message, as its two words.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn block(&mut self, words: [__m512i; 2]) {
        self.sum = carried(product(plus(self.sum, block(words)), &self.r));
    }

    /// Add two blocks of each message: `((sum + first) r + second) r`, with one wait instead of two.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn two_blocks(&mut self, words: [__m512i; 4]) {
        let second = product(block([words[2], words[3]]), &self.r);
        let first = plus(self.sum, block([words[0], words[1]]));
        self.sum = carried(accumulate(second, first, &self.r_squared));
    }

    /// The tags.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn finish(self) -> [u128; LANES] {
        let [low, middle, high] = self.sum.map(|limb| unpack(limb));
        let pad = self.pad.map(|word| unpack(word));
        std::array::from_fn(|lane| {
            let reduced = reduce([low[lane], middle[lane], high[lane]]);
            reduced.wrapping_add(u128::from(pad[0][lane]) | u128::from(pad[1][lane]) << 64)
        })
    }
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(limbs: Limbs) -> Self {
        let twenty = |limb| _mm512_add_epi64(_mm512_slli_epi64::<4>(limb), _mm512_slli_epi64::<2>(limb));
        Self { limbs, folded: [twenty(limbs[1]), twenty(limbs[2])] }
    }
}

/// The lower and the upper half of products: an upper one counts 2^52 of its lower.
type Halves = (Limbs, Limbs);

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn product(by: Limbs, factor: &Factor) -> Halves {
    let zeros = [_mm512_setzero_si512(); 3];
    accumulate((zeros, zeros), by, factor)
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn accumulate((mut low, mut high): Halves, by: Limbs, factor: &Factor) -> Halves {
    let ([r0, r1, r2], [s1, s2]) = (factor.limbs, factor.folded);
    let rows = [[r0, s2, s1], [r1, r0, s2], [r2, r1, r0]];
    // Limb after limb, so that the three sums grow side by side.
    for column in 0..3 {
        for (row, factors) in rows.iter().enumerate() {
            low[row] = _mm512_madd52lo_epu64(low[row], by[column], factors[column]);
            high[row] = _mm512_madd52hi_epu64(high[row], by[column], factors[column]);
        }
    }
    (low, high)
}

/// Make limbs of sums of products again; the middle one may be a few bits larger than 44.
#[inline]
#[target_feature(enable = "avx512f")]
fn carried((low, high): Halves) -> Limbs {
    let plus = |a, b| _mm512_add_epi64(a, b);
    let middle = plus(plus(low[1], _mm512_slli_epi64::<8>(high[0])), _mm512_srli_epi64::<44>(low[0]));
    let upper = plus(plus(low[2], _mm512_slli_epi64::<8>(high[1])), _mm512_srli_epi64::<44>(middle));
    let over = plus(_mm512_srli_epi64::<42>(upper), _mm512_slli_epi64::<10>(high[2]));
    let five_times = plus(over, _mm512_slli_epi64::<2>(over));
    let lowest = plus(_mm512_and_si512(low[0], all(LOW_44)), five_times);
    let middle = plus(_mm512_and_si512(middle, all(LOW_44)), _mm512_srli_epi64::<44>(lowest));
    [_mm512_and_si512(lowest, all(LOW_44)), middle, _mm512_and_si512(upper, all(LOW_42))]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn plus(a: Limbs, b: Limbs) -> Limbs {
    [0, 1, 2].map(|limb| _mm512_add_epi64(a[limb], b[limb]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn limbs([low, high]: [__m512i; 2]) -> Limbs {
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [_mm512_and_si512(low, all(LOW_44)), _mm512_and_si512(middle, all(LOW_44)), _mm512_srli_epi64::<24>(high)]
}

/// A whole block, with the bit above it.
#[inline]
#[target_feature(enable = "avx512f")]
fn block(words: [__m512i; 2]) -> Limbs {
    let [low, middle, high] = limbs(words);
    [low, middle, _mm512_or_si512(high, all(1 << (128 - 88)))]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(value: u64) -> __m512i {
    _mm512_set1_epi64(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn unpack(lanes: __m512i) -> [u64; LANES] {
    let mut values = [0; LANES];
    // SAFETY: eight words are 64 bytes.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), lanes) };
    values
}

/// The number modulo 2^130 - 5, of which a tag takes the lower 128 bits; the same work for every number.
fn reduce(limbs: [u64; 3]) -> u128 {
    let [low, middle, high] = settle(settle(limbs));
    // Less the modulus, which is less than 0 exactly when the number was below it.
    let [low_less, middle_less] = [low + 5, middle + ((low + 5) >> 44)];
    let high_less = (high + (middle_less >> 44)).wrapping_sub(1 << 42);
    let below = 0_u64.wrapping_sub(high_less >> 63);
    let choose = |number: u64, less: u64| (number & below) | (less & !below);
    let low = choose(low, low_less & LOW_44);
    let middle = choose(middle, middle_less & LOW_44);
    let high = choose(high, high_less & LOW_42);
    u128::from(low) | u128::from(middle) << 44 | u128::from(high) << 88
}

/// Carry all the way round once.
fn settle([low, middle, high]: [u64; 3]) -> [u64; 3] {
    let high = high + (middle >> 44);
    let low = low + (high >> 42) * 5;
    let middle = (middle & LOW_44) + (low >> 44);
    [low & LOW_44, middle, high & LOW_42]
}
