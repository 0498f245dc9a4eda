#!/usr/bin/env bash
# Let libFuzzer look for inputs that break a parser: run.sh TARGET [SECONDS]. Needs a stable toolchain and a C++ compiler.
# It starts from the committed corpus and keeps what it finds beside its build; what breaks a parser goes to the corpus.
set -euo pipefail
target=${1:?usage: run.sh TARGET [SECONDS]}
seconds=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$here/target}/fuzz"
# What `cargo fuzz` asks of the compiler, by flags that the stable one has too: count which edges were taken.
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-trace-compares)
host=$(rustc -vV | sed -n 's/^host: //p')
# With a named target the flags stay away from build scripts and macros.
RUSTFLAGS="${coverage[*]} --cfg fuzzing -Ccodegen-units=1" \
    cargo build --quiet --release --target "$host" --manifest-path "$here/Cargo.toml"
found="$CARGO_TARGET_DIR/found/$target"
mkdir -p "$found"
WARREN_FUZZ_TARGET=$target exec "$CARGO_TARGET_DIR/$host/release/parsers" \
    "$found" "$here/../../tests/vectors/corpus/$target" \
    -max_total_time="$seconds" -max_len=4096 -artifact_prefix="$found/" -print_final_stats=1
