#!/usr/bin/env bash
# Generate the Python messages from the .proto files. Run after a change of one; the result is committed.
# Each package of messages lives at a real import path, so a proto imports another by that path
# (`import "warren/rpc/_pb/tailnet.proto"`), which protoc finds through a mapping of the folder.
set -euo pipefail
cd "$(dirname "$0")/.."

generate() { # package-folder proto...
  local package=$1
  shift
  local files=()
  for name in "$@"; do files+=("$package/$name.proto"); done
  .venv/bin/python -m grpc_tools.protoc "-I$package=proto" --python_out=src --pyi_out=src "${files[@]}"
}

generate warren/rpc/_pb tailnet agent provisioner provisionerd
generate warren/provisioner/coder_provider/_pb tfplugin6
