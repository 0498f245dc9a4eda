//! ChaCha20 (RFC 8439 §2.3), sixteen blocks at once: one in each 32-bit lane.

use std::arch::x86_64::*;

/// Sixteen words of sixteen lanes. As a state, entry `w` holds word `w` of every block.
pub type Words = [__m512i; 16];

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Where the block counter stands in a state.
pub const BLOCK: usize = 12;

/// One step of four quarter rounds, side by side so that none waits for another: `x += y; z = (z ^ x) <<< r`.
macro_rules! step {
    ($($x:ident $y:ident $z:ident),*; $r:literal) => {
        $($x = _mm512_add_epi32($x, $y);)*
        $($z = _mm512_rol_epi32::<$r>(_mm512_xor_si512($z, $x));)*
    };
}

/// Four quarter rounds (RFC 8439 §2.1). A macro, so that the sixteen words stay in registers.
macro_rules! quarter_rounds {
    ($($a:ident $b:ident $c:ident $d:ident),*) => {
        step!($($a $b $d),*; 16);
        step!($($c $d $b),*; 12);
        step!($($a $b $d),*; 8);
        step!($($c $d $b),*; 7);
    };
}

/// The state whose lane `l` is block `block[l]` under the 64-bit nonce `counter[l]`.
#[target_feature(enable = "avx512f")]
pub fn state(key: &[u32; 8], block: [u32; 16], counter: [u64; 16]) -> Words {
    let mut words = [_mm512_setzero_si512(); 16];
    for (word, value) in words.iter_mut().zip(CONSTANTS.iter().chain(key)) {
        *word = _mm512_set1_epi32(value.cast_signed());
    }
    words[BLOCK] = lanes(block);
    words[14] = lanes(counter.map(|counter| counter as u32));
    words[15] = lanes(counter.map(|counter| (counter >> 32) as u32));
    words
}

#[target_feature(enable = "avx512f")]
fn lanes(values: [u32; 16]) -> __m512i {
    // SAFETY: sixteen words are 64 bytes.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// The key stream of each lane, 64 bytes an entry: entry `l` is the block of lane `l`.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn blocks(state: &Words) -> Words {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h, mut i, mut j, mut k, mut l, mut m, mut n, mut o, mut p] =
        *state;
    for _ in 0..10 {
        quarter_rounds!(a e i m, b f j n, c g k o, d h l p);
        quarter_rounds!(a f k p, b g l m, c h i n, d e j o);
    }
    let mut words = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
    for (word, before) in words.iter_mut().zip(state) {
        *word = _mm512_add_epi32(*word, *before);
    }
    transpose(words)
}

/// Turn words of lanes into lanes of words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(words: Words) -> Words {
    let mut fours = words;
    for (four, from) in fours.as_chunks_mut::<4>().0.iter_mut().zip(words.as_chunks::<4>().0) {
        let low = [_mm512_unpacklo_epi32(from[0], from[1]), _mm512_unpacklo_epi32(from[2], from[3])];
        let high = [_mm512_unpackhi_epi32(from[0], from[1]), _mm512_unpackhi_epi32(from[2], from[3])];
        *four = [
            _mm512_unpacklo_epi64(low[0], low[1]),
            _mm512_unpackhi_epi64(low[0], low[1]),
            _mm512_unpacklo_epi64(high[0], high[1]),
            _mm512_unpackhi_epi64(high[0], high[1]),
        ];
    }
    // Quarter `q` of entry `4 i + k` holds words `4 i` to `4 i + 3` of lane `4 q + k`.
    let mut lanes = words;
    for k in 0..4 {
        let quarters = quarters([fours[k], fours[4 + k], fours[8 + k], fours[12 + k]]);
        for (q, quarter) in quarters.into_iter().enumerate() {
            lanes[4 * q + k] = quarter;
        }
    }
    lanes
}

/// Entry `q` of the result is made of quarter `q` of each entry.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn quarters(from: [__m512i; 4]) -> [__m512i; 4] {
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let even = [_mm512_shuffle_i32x4::<EVEN>(from[0], from[1]), _mm512_shuffle_i32x4::<EVEN>(from[2], from[3])];
    let odd = [_mm512_shuffle_i32x4::<ODD>(from[0], from[1]), _mm512_shuffle_i32x4::<ODD>(from[2], from[3])];
    [
        _mm512_shuffle_i32x4::<EVEN>(even[0], even[1]),
        _mm512_shuffle_i32x4::<EVEN>(odd[0], odd[1]),
        _mm512_shuffle_i32x4::<ODD>(even[0], even[1]),
        _mm512_shuffle_i32x4::<ODD>(odd[0], odd[1]),
    ]
}
