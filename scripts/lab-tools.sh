#!/usr/bin/env bash
# Install what the network lab needs, where it is missing and we may; the lab itself says what it lacks.
missing=()
command -v nft >/dev/null || missing+=(nftables)
command -v ip >/dev/null || missing+=(iproute2)
[ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
echo "setup: installing ${missing[*]} for the network lab" >&2
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
install 2>/dev/null || { apt-get update -qq && install; } || echo "setup: ${missing[*]} could not be installed: the lab's tests are skipped" >&2
