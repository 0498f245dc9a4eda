#!/usr/bin/env bash
# Install Warren and what it needs into the checkout: Python packages into .venv, the engine into src/warren.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
# One set-up of a checkout at a time: `make demo` and `make test` may be started together.
exec 9>.tools/.lock && flock 9

quiet=(--quiet)
[ -t 2 ] && quiet=()
.tools/bin/uv sync --frozen "${quiet[@]}" || {
    echo "setup: the engine or a Python package could not be installed; the reason is above." >&2
    exit 1
}
# The environment may forbid Python to write bytecode at run time; a command without it starts twice as slowly.
env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m compileall -q src/warren >/dev/null
[ $((SECONDS - started)) -lt 2 ] || echo "setup: ready after $((SECONDS - started)) s" >&2
