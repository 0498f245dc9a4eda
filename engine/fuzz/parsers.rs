//! One target of `warren-engine`'s `fuzz::TARGETS` under libFuzzer; `WARREN_FUZZ_TARGET` names it.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("WARREN_FUZZ_TARGET").expect("WARREN_FUZZ_TARGET names a target"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| _engine::fuzz::run(&TARGET, data));
