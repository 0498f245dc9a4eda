//! Runs every target over its corpus and over seeded mutations of it, for a bounded time.
//!
//! The same seed tries the same inputs in the same order. `WARREN_FUZZ_SECONDS` lets each target run for longer than
//! the moment that `cargo test` gives it, `WARREN_FUZZ_SEED` tries others. An input that fails is printed: write it to
//! the target's folder of the corpus, so that it is tried for ever.

use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::TARGETS;

/// What one target may take in an ordinary run of the tests.
const SECONDS: f64 = 1.0;
/// More than this is not tried in an ordinary run.
const ROUNDS: u64 = 20_000;
/// Inputs do not grow beyond this.
const MAX_LEN: usize = 4_096;
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/corpus");

/// Bytes at which parsers turn.
const EDGES: [u8; 12] = [0, 1, 2, 4, 0x0a, 0x0d, 0x20, 0x7e, 0x7f, 0x80, 0xfe, 0xff];

/// Numbers that are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Change an input in one way.
fn change(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(input.len());
    match random.below(9) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = EDGES[random.below(EDGES.len())],
        2 if !input.is_empty() => input[at] = random.next() as u8,
        3 => input.truncate(at),
        4 => {
            // A number of two or four bytes, where formats have lengths.
            let number = [0, 1, 0x7fff, 0xffff, 0x0001_0000, 0x7fff_ffff, u32::MAX][random.below(7)];
            let bytes = if random.below(2) == 0 { &number.to_be_bytes()[2..] } else { &number.to_be_bytes()[..] };
            input.splice(at..input.len().min(at + bytes.len()), bytes.iter().copied());
        }
        5 => {
            let end = at + random.below(input.len() - at);
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        6 => {
            let end = at + random.below(input.len() - at);
            input.drain(at..end);
        }
        7 => {
            let from = random.below(other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        _ => {
            let count = 1 + random.below(8);
            let fresh: Vec<u8> = (0..count).map(|_| random.next() as u8).collect();
            input.splice(at..at, fresh);
        }
    }
    input.truncate(MAX_LEN);
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(CORPUS).join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    found.sort();
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

fn setting(name: &str) -> Option<f64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Try one input; a failure says which it was.
fn attempt(name: &str, target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(|| target(input)) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!(
            "target `{name}` failed on {hex}\nkeep it: printf %s {hex} | xxd -r -p >tests/vectors/corpus/{name}/NAME"
        );
        resume_unwind(panic);
    }
}

fn fuzz(name: &str) {
    let (_, target) = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let seeds = corpus(name);
    for (_, seed) in &seeds {
        attempt(name, target, seed);
    }
    let longer = setting("WARREN_FUZZ_SECONDS");
    let seed = setting("WARREN_FUZZ_SEED").unwrap_or(1.0) as u64;
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
    let until = Instant::now() + Duration::from_secs_f64(longer.unwrap_or(SECONDS));
    for round in 0_u64.. {
        if (longer.is_none() && round == ROUNDS) || (round % 16 == 0 && Instant::now() > until) {
            break;
        }
        let mut input = seeds[random.below(seeds.len())].1.clone();
        for _ in 0..=random.below(6) {
            let other = &seeds[random.below(seeds.len())].1;
            change(&mut random, &mut input, other);
        }
        attempt(name, target, &input);
    }
}

/// One test a target, so that they run beside each other and fail by name.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|(name, _)| run.contains(name)) && run.len() == TARGETS.len());
        }
    };
}

targets!(
    stun,
    disco,
    wireguard,
    inner,
    fragments,
    segments,
    derp,
    derp_login,
    derp_map,
    websocket,
    upgrade,
    proxy,
    proxy_settings
);
