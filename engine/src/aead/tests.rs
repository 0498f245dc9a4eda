use super::*;
use crate::noise::Noise;

fn key(noise: &mut Noise) -> Key {
    Key::new(&noise.bytes(32).try_into().unwrap())
}

/// Texts of these lengths in one slab, with gaps that nobody may touch.
fn laid_out(noise: &mut Noise, lengths: &[usize]) -> (Vec<u8>, Vec<Span>) {
    let (mut slab, mut texts) = (Vec::new(), Vec::new());
    for length in lengths {
        slab.extend(noise.bytes(7));
        texts.push(Span { start: slab.len(), end: slab.len() + length });
        slab.extend(noise.bytes(length + TAG));
    }
    slab.extend(noise.bytes(7));
    (slab, texts)
}

/// What `seal_many` must do, one by one.
fn one_by_one(key: &Key, first: u64, slab: &mut [u8], texts: &[Span]) {
    for (counter, text) in (first..).zip(texts) {
        let tag = key.seal(counter, &mut slab[text.range()]);
        slab[text.end..text.end + TAG].copy_from_slice(&tag);
    }
}

fn check(noise: &mut Noise, first: u64, lengths: &[usize]) {
    let key = key(noise);
    let (plain, texts) = laid_out(noise, lengths);
    let (mut slab, mut expected) = (plain.clone(), plain.clone());
    key.seal_many(first, &mut slab, &texts);
    one_by_one(&key, first, &mut expected, &texts);
    assert!(slab == expected, "sealing {lengths:?} from {first}");

    for (group, texts) in texts.chunks(LANES).enumerate() {
        let first = first + (group * LANES) as u64;
        let sealed: Vec<_> = (first..)
            .zip(texts)
            .map(|(counter, text)| Sealed { counter, bytes: &slab[text.start..][..text.len() + TAG] })
            .collect();
        let mut out = vec![0; texts.iter().map(|text| text.len() + TAG).sum()];
        let opened = key.open_many(&sealed, &mut out);
        for (opened, text) in opened.iter().zip(texts) {
            let opened = opened.unwrap_or_else(|| panic!("opening {lengths:?} from {first}"));
            assert_eq!(out[opened.start..][..opened.len()], plain[text.start..][..text.len()]);
        }
        assert!(opened[texts.len()..].iter().all(Option::is_none));
    }
}

#[test]
fn the_nonce_is_four_zeros_and_the_counter() {
    let key = Key::new(&[0x42; 32]);
    let mut text = *b"what ring seals under the same nonce";
    let tag = key.seal(0x0102_0304_0506_0708, &mut text);
    let ring = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[0x42; 32]).unwrap());
    let nonce = Nonce::assume_unique_for_key([0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    let mut sealed = [&text[..], &tag].concat();
    assert_eq!(ring.open_in_place(nonce, Aad::empty(), &mut sealed).unwrap(), b"what ring seals under the same nonce");
}

#[test]
fn eight_of_every_length_are_what_one_by_one_gives() {
    let mut noise = Noise::new(1);
    for length in 0..1700 {
        check(&mut noise, length as u64 * 8, &[length; LANES]);
    }
}

#[test]
fn any_mix_of_lengths_is_what_one_by_one_gives() {
    let mut noise = Noise::new(2);
    for _ in 0..400 {
        let common = noise.below(1500);
        let lengths: Vec<_> =
            (0..noise.below(40)).map(|_| if noise.below(6) == 0 { noise.below(1500) } else { common }).collect();
        let first = noise.next() >> noise.below(60);
        check(&mut noise, first.min(u64::MAX - 100), &lengths);
    }
}

#[test]
fn counters_count_across_32_bits() {
    check(&mut Noise::new(3), u64::from(u32::MAX) - 3, &[100; LANES]);
    check(&mut Noise::new(4), u64::MAX - 8, &[1312; LANES]);
}

#[test]
fn what_was_changed_stays_shut_and_the_others_open() {
    let mut noise = Noise::new(5);
    for length in [0, 1, 16, 63, 64, 65, 700, 1312] {
        let key = key(&mut noise);
        let (plain, texts) = laid_out(&mut noise, &[length; LANES]);
        let mut slab = plain.clone();
        key.seal_many(77, &mut slab, &texts);
        for lane in 0..LANES {
            let mut broken = slab.clone();
            broken[texts[lane].start + noise.below(length + TAG)] ^= 1 << noise.below(8);
            let sealed: [_; LANES] = std::array::from_fn(|number| Sealed {
                counter: 77 + number as u64,
                bytes: &broken[texts[number].start..][..length + TAG],
            });
            let mut out = vec![0xaa; LANES * (length + TAG)];
            let opened = key.open_many(&sealed, &mut out);
            let shut = (0..LANES).filter(|number| opened[*number].is_none()).collect::<Vec<_>>();
            assert_eq!(shut, [lane]);
            let place = &out[lane * (length + TAG)..][..length + TAG];
            assert!(place.iter().all(|byte| *byte == 0), "nothing of it may be seen");
        }
    }
}

#[test]
fn another_counter_and_another_key_open_nothing() {
    let mut noise = Noise::new(6);
    let (right, wrong) = (key(&mut noise), key(&mut noise));
    let (mut slab, texts) = laid_out(&mut noise, &[500; LANES]);
    right.seal_many(0, &mut slab, &texts);
    let sealed = |shift: u64| -> [Sealed<'_>; LANES] {
        std::array::from_fn(|lane| Sealed { counter: lane as u64 + shift, bytes: &slab[texts[lane].start..][..516] })
    };
    let mut out = vec![0; LANES * 516];
    assert!(right.open_many(&sealed(0), &mut out).iter().all(Option::is_some));
    assert!(right.open_many(&sealed(1), &mut out).iter().all(Option::is_none));
    assert!(wrong.open_many(&sealed(0), &mut out).iter().all(Option::is_none));
}

#[test]
fn what_is_shorter_than_a_tag_is_not_opened() {
    let key = Key::new(&[1; 32]);
    for length in 0..TAG {
        let bytes = vec![0; length];
        let sealed = [Sealed { counter: 0, bytes: &bytes }; LANES];
        assert_eq!(key.open_many(&sealed, &mut vec![0; length * LANES]), [None; LANES]);
    }
}

/// Prints what stands in `engine/README.md`.
#[test]
#[ignore = "measures: cargo test --release -p warren-engine aead -- --ignored --nocapture"]
fn how_long_texts_take_one_by_one_and_side_by_side() {
    let mut noise = Noise::new(8);
    let key = key(&mut noise);
    for length in [64, 256, 1280] {
        for count in 1..=LANES {
            let (mut slab, texts) = laid_out(&mut noise, &vec![length; count]);
            let mut best = std::time::Duration::MAX;
            for _ in 0..200 {
                let start = std::time::Instant::now();
                (0..100).for_each(|turn| key.seal_many(turn * 8, &mut slab, &texts));
                best = best.min(start.elapsed() / (100 * count as u32));
            }
            println!("{count} of {length} bytes: {best:?} each, wide: {}", key.worth_it(count, length));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod poly {
    use std::arch::x86_64::*;

    use super::super::poly1305::Poly1305;
    use super::super::{wide, LANES};
    use crate::noise::Noise;

    const MODULUS_HIGH: u128 = 4; // 2^130 = 4 * 2^128

    /// A number below 2^131 as its part from 2^128 on and the rest.
    type Number = (u128, u128);

    fn add((a_high, a): Number, (b_high, b): Number) -> Number {
        let (low, carry) = a.overflowing_add(b);
        reduced((a_high + b_high + u128::from(carry), low))
    }

    fn reduced((high, low): Number) -> Number {
        let (less, borrow) = low.overflowing_sub(u128::MAX - 4);
        let below = high < MODULUS_HIGH - 1 || (high == MODULUS_HIGH - 1 && borrow);
        if below {
            return (high, low);
        }
        reduced((high - (MODULUS_HIGH - 1) - u128::from(borrow), less))
    }

    /// Poly1305 by the book: double and add.
    fn by_the_book(key: &[u8; 32], message: &[u8]) -> u128 {
        let half = |at: usize| u128::from_le_bytes(key[at..at + 16].try_into().unwrap());
        let r = half(0) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
        let mut sum: Number = (0, 0);
        for block in message.as_chunks::<16>().0 {
            sum = add(sum, (1, u128::from_le_bytes(*block)));
            let mut times: Number = (0, 0);
            for bit in (0..128).rev() {
                times = add(times, times);
                if r >> bit & 1 == 1 {
                    times = add(times, sum);
                }
            }
            sum = times;
        }
        sum.1.wrapping_add(half(16))
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn side_by_side(keys: &[[u8; 32]; LANES], messages: &[Vec<u8>; LANES], pairs: bool) -> [u128; LANES] {
        let word = |of: &dyn Fn(usize) -> u64| -> __m512i {
            let values: [u64; LANES] = std::array::from_fn(of);
            // SAFETY: eight words are 64 bytes.
            unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
        };
        let read = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let mut poly = Poly1305::new([0, 8, 16, 24].map(|at| word(&|lane| read(&keys[lane], at))));
        let mut at = 0;
        while at < messages[0].len() {
            let words = |at: usize| [at, at + 8].map(|at| word(&|lane| read(&messages[lane], at)));
            if pairs && at + 32 <= messages[0].len() {
                let ([a, b], [c, d]) = (words(at), words(at + 16));
                poly.two_blocks([a, b, c, d]);
                at += 32;
            } else {
                poly.block(words(at));
                at += 16;
            }
        }
        poly.finish()
    }

    fn check(keys: [[u8; 32]; LANES], messages: [Vec<u8>; LANES]) {
        let expected: [u128; LANES] = std::array::from_fn(|lane| by_the_book(&keys[lane], &messages[lane]));
        for pairs in [false, true] {
            // SAFETY: the callers have looked whether the processor has it.
            assert_eq!(unsafe { side_by_side(&keys, &messages, pairs) }, expected);
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn vectors_of_rfc_8439_appendix_a_3() {
        let ones = "ffffffffffffffffffffffffffffffff";
        let (zero, two, one) = ("00".repeat(16), format!("02{}", "00".repeat(15)), format!("01{}", "00".repeat(15)));
        let vectors = [
            // numbers 7 to 11: the sum comes to the modulus, or just beside it
            (&two, &zero, ones.to_owned(), format!("03{}", "00".repeat(15))),
            (&two, &ones.to_owned(), format!("02{}", "00".repeat(15)), format!("03{}", "00".repeat(15))),
            (
                &one,
                &zero,
                format!("{ones}f0{}11{}", "ff".repeat(15), "00".repeat(15)),
                format!("05{}", "00".repeat(15)),
            ),
            (&one, &zero, format!("{ones}fb{}{}", "fe".repeat(15), "01".repeat(16)), "00".repeat(16)),
            (&two, &zero, format!("fd{}", "ff".repeat(15)), format!("fa{}", "ff".repeat(15))),
        ];
        for (r, s, message, tag) in vectors {
            let key: [u8; 32] = hex(&format!("{r}{s}")).try_into().unwrap();
            let tag = u128::from_le_bytes(hex(&tag).try_into().unwrap());
            assert_eq!(by_the_book(&key, &hex(&message)), tag, "{message}");
            if wide() {
                check([key; LANES], std::array::from_fn(|_| hex(&message)));
            }
        }
    }

    #[test]
    fn numbers_at_the_edges_are_what_the_book_gives() {
        if !wide() {
            return;
        }
        let mut noise = Noise::new(7);
        for _ in 0..300 {
            let blocks = 1 + noise.below(9);
            let mut edge = |length: usize| -> Vec<u8> {
                let kind = noise.below(4);
                (0..length)
                    .map(|at| match kind {
                        0 => 0xff,
                        1 if at % 16 == 0 => 0xfa + noise.below(6) as u8,
                        1 => 0xff,
                        2 => [0, 0xff, 0x0f, 0xf0][noise.below(4)],
                        _ => noise.next() as u8,
                    })
                    .collect()
            };
            let keys = std::array::from_fn(|_| edge(32).try_into().unwrap());
            let messages = std::array::from_fn(|_| edge(blocks * 16));
            check(keys, messages);
        }
    }
}
