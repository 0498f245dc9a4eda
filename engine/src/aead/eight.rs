//! Eight texts of one length under one key, side by side (RFC 8439 §2.8).

use std::arch::x86_64::*;

use super::chacha20::{self, quarters, Words, BLOCK};
use super::poly1305::Poly1305;
use super::LANES;

/// Bytes of one block of the key stream.
const CHUNK: usize = 64;

/// One text: where it is read and where the result goes, which may be the same place.
pub struct Lane {
    pub counter: u64,
    pub source: *const u8,
    pub target: *mut u8,
}

/// Seal or open `length` bytes of each lane; returns the tags of the sealed texts.
///
/// Each lane reads 64 bytes of every lane before it writes any, so lanes may be copies of one another.
///
/// # Safety
/// The processor has AVX-512 F, BW and IFMA. `length` bytes can be read at every source and written at every target. A
/// source and a target overlap only where they are the same, and two targets only where their lanes are copies.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub unsafe fn crypt<const SEAL: bool>(key: &[u32; 8], lanes: &[Lane; LANES], length: usize) -> [u128; LANES] {
    // The first eight of sixteen blocks are the even ones of each text, the others the odd ones after them.
    let mut state = chacha20::state(
        key,
        std::array::from_fn(|lane| (lane / LANES) as u32),
        std::array::from_fn(|lane| lanes[lane % LANES].counter),
    );
    let [key_blocks, mut stream] = halves(chacha20::blocks(&state));
    let words = transpose(key_blocks);
    let mut poly = Poly1305::new([words[0], words[1], words[2], words[3]]);
    let mut at = 0;
    while at < length {
        // SAFETY: as the caller promised; `at` is below `length`.
        unsafe { chunk::<SEAL>(&mut poly, &stream, lanes, at, length) };
        at += CHUNK;
        if at >= length {
            break;
        }
        state[BLOCK] = _mm512_add_epi32(state[BLOCK], _mm512_set1_epi32(2));
        let [even, odd] = halves(chacha20::blocks(&state));
        // SAFETY: as above.
        unsafe { chunk::<SEAL>(&mut poly, &even, lanes, at, length) };
        at += CHUNK;
        stream = odd;
    }
    // No additional data, and so much text.
    poly.block([_mm512_setzero_si512(), _mm512_set1_epi64(length as i64)]);
    poly.finish()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(blocks: Words) -> [[__m512i; LANES]; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = blocks;
    [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]]
}

/// Do up to 64 bytes of each text.
///
/// # Safety
/// As `crypt`, and `at < length`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
unsafe fn chunk<const SEAL: bool>(
    poly: &mut Poly1305,
    stream: &[__m512i; LANES],
    lanes: &[Lane; LANES],
    at: usize,
    length: usize,
) {
    let here = (length - at).min(CHUNK);
    let mask = u64::MAX >> (CHUNK - here);
    let (mut input, mut output) = ([_mm512_setzero_si512(); LANES], [_mm512_setzero_si512(); LANES]);
    for (lane, input) in lanes.iter().zip(&mut input) {
        // SAFETY: only bytes within the text are read, as the mask says.
        *input = unsafe { _mm512_maskz_loadu_epi8(mask, lane.source.add(at).cast()) };
    }
    for lane in 0..LANES {
        output[lane] = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(input[lane], stream[lane]));
    }
    for (lane, output) in lanes.iter().zip(output) {
        // SAFETY: only bytes within the text are written, as the mask says.
        unsafe { _mm512_mask_storeu_epi8(lane.target.add(at).cast(), mask, output) };
    }
    let words = transpose(if SEAL { output } else { input });
    if here == CHUNK {
        poly.two_blocks([words[0], words[1], words[2], words[3]]);
        poly.two_blocks([words[4], words[5], words[6], words[7]]);
        return;
    }
    // The last block is filled up with zeros (RFC 8439 §2.8), which the mask has put there.
    for block in words.as_chunks::<2>().0.iter().take(here.div_ceil(16)) {
        poly.block(*block);
    }
}

/// From 64 bytes of each text to each 64-bit word of all texts.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(texts: [__m512i; LANES]) -> [__m512i; LANES] {
    let [a, b, c, d, e, f, g, h] = texts;
    let low = [(a, b), (c, d), (e, f), (g, h)].map(|(x, y)| _mm512_unpacklo_epi64(x, y));
    let high = [(a, b), (c, d), (e, f), (g, h)].map(|(x, y)| _mm512_unpackhi_epi64(x, y));
    // Quarter `q` of a low entry is word `2 q` of two texts.
    let (low, high) = (quarters(low), quarters(high));
    [low[0], high[0], low[1], high[1], low[2], high[2], low[3], high[3]]
}
