#!/bin/sh
# Build the engine in release mode and put it where Python imports it.
set -eu
cd "$(dirname "$0")/.."
CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}" cargo build --release --locked -p warren-engine --features extension-module
cp -f target/release/lib_engine.so src/warren/_engine.abi3.so.new
mv -f src/warren/_engine.abi3.so.new src/warren/_engine.abi3.so
