#!/bin/sh
# Build other implementations of what Warren speaks, for tests/interop: peers.sh FOLDER. Does nothing the second time.
set -eu
folder=${1:?usage: peers.sh FOLDER}
version=v1.102.5 # the newest that Go 1.26 builds
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
command -v go >/dev/null || { echo "peers.sh: Go is needed to build them" >&2; exit 1; }
for program in derper derpprobe; do
    [ -x "$folder/$program" ] && continue
    echo "building $program $version"
    GOTOOLCHAIN=local GOFLAGS=-p=2 GOBIN="$folder" go install "tailscale.com/cmd/$program@$version"
done
