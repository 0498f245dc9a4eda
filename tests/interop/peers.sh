#!/bin/sh
# Build other implementations of what Warren speaks, for tests/interop: peers.sh FOLDER [PROGRAM…], all unless named.
# Does nothing the second time, unless the source of a program that stands here has changed. OpenTofu (`tofu`) is built
# only where it is named: it takes minutes.
set -eu
folder=${1:?usage: peers.sh FOLDER [PROGRAM...]}
shift
[ $# -gt 0 ] || set -- derper derpprobe tailnode terraform-provider-coder terraform-provider-docker
tailscale=v1.102.5 # the newest that Go 1.26 builds
provider=v2.19.0
tofu=v1.12.6
tofu_hcl=v2.20.2-0.20251021132045-587d123c2828 # its own copy of this library, as its go.mod says
docker=v0.0.0-20260916201441-96d331c98ff4 # after v4.5.0: its tags lack the suffix by which modules find them
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
command -v go >/dev/null || { echo "peers.sh: Go is needed to build them" >&2; exit 1; }
export GOTOOLCHAIN=local GOFLAGS=-p=2 GOBIN="$folder"

sum=$(cksum <"$here/tailnode/main.go")
fresh() { # program: whether it need not be built
    [ -x "$folder/$1" ] || return 1
    [ "$1" != tailnode ] || [ "$(cat "$folder/tailnode.sum" 2>/dev/null)" = "$sum" ]
}

for program; do
    fresh "$program" && continue
    echo "building $program"
    case $program in
    derper | derpprobe) go install "tailscale.com/cmd/$program@$tailscale" ;;
    terraform-provider-coder) go install "github.com/coder/terraform-provider-coder/v2@$provider" ;;
    terraform-provider-docker)
        # The repository moved, but its module is still called by its first name.
        module=$(mktemp -d)
        trap 'rm -rf "$module"' EXIT
        name=github.com/terraform-providers/terraform-provider-docker
        (cd "$module" && go mod init docker && go mod edit -require="$name@v0.0.0" \
            -replace="$name=github.com/kreuzwerker/terraform-provider-docker@$docker" &&
            GOFLAGS="$GOFLAGS -mod=mod" go build -o "$folder/$program" "$name")
        ;;
    tofu)
        module=$(mktemp -d)
        trap 'rm -rf "$module"' EXIT
        (cd "$module" && go mod init tofu && go mod edit -require="github.com/opentofu/opentofu@$tofu" \
            -replace="github.com/hashicorp/hcl/v2@v2.20.1=github.com/opentofu/hcl/v2@$tofu_hcl" &&
            GOFLAGS="$GOFLAGS -mod=mod" go build -o "$folder/tofu" github.com/opentofu/opentofu/cmd/tofu)
        ;;
    tailnode)
        module=$(mktemp -d)
        trap 'rm -rf "$module"' EXIT
        cp "$here/tailnode/main.go" "$module"
        (cd "$module" && go mod init tailnode && go get "tailscale.com@$tailscale" && go mod tidy &&
            go build -o "$folder/tailnode" .)
        echo "$sum" >"$folder/tailnode.sum"
        ;;
    *) echo "peers.sh: no program $program" >&2 && exit 2 ;;
    esac
done
