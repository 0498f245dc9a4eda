#!/usr/bin/env bash
# Make the generated files from their sources; with --check, say whether they are up to date and change nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

generated=(src/warren/rpc/_pb src/warren/provisioner/coder_provider/_pb src/warren/storage/schema.sql docs/reference)
generate() {
    proto/generate.sh
    .venv/bin/python scripts/dump_schema.py
    .venv/bin/python -m warren.cli.docs docs/reference/cli.md
    .venv/bin/python scripts/document_settings.py
    .venv/bin/python scripts/document_findings.py
}

if [ "${1:-}" = --check ]; then
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    cp -r --parents "${generated[@]}" "$before"
    generate
    for path in "${generated[@]}"; do
        diff -r -x __pycache__ "$before/$path" "$path" >/dev/null || {
            echo "generated: $path is not what its sources make; it was made again: commit it." >&2
            exit 1
        }
    done
else
    generate
fi
