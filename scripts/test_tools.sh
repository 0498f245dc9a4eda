#!/usr/bin/env bash
# Install the Debian packages that some tests use, where we may: as root, with apt, once a checkout. Never fails: a test
# whose program is missing skips and says so.
set -uo pipefail
cd "$(dirname "$0")/.."

# Program, and the package that has it.
needed=(rsync:rsync nft:nftables iperf3:iperf3 ip:iproute2 tinyproxy:tinyproxy-bin microsocks:microsocks)
tried=.tools/.test-tools
seconds=180 # a mirror that does not answer must not hold the tests up

missing=()
for each in "${needed[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${each%%:*}" >/dev/null || missing+=("${each##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ ! -e "$tried" ] || exit 0
touch "$tried"

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup: tests that need ${missing[*]} will be skipped: install them for the whole run" >&2
    exit 0
fi
install() {
    DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 "$seconds" \
        apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=1 "$@" </dev/null >>"$tried" 2>&1
}
# What is known of the mirror may be enough; its lists are fetched only where it is not.
install install --yes --no-install-recommends "${missing[@]}" ||
    { install update && install install --yes --no-install-recommends "${missing[@]}"; } ||
    echo "setup: ${missing[*]} could not be installed, and tests that need them will be skipped ($tried says why)" >&2
exit 0
