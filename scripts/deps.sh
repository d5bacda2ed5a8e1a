#!/usr/bin/env bash
# Installs what building and testing need beyond Go: clang 19 for the BPF programs and for the native
# tests, what boots other kernels, the firewalls that weir bench compares with, and the proxies of docs/integrations and
# the Redis of the tests, which it keeps from running as services. On Debian and Ubuntu, as root; elsewhere it says what
# is missing. "make build" and "make demo" need none of it, and "make bench" leaves out what is not there.
set -euo pipefail

# command -> Debian package
needed=(
	"clang-19 clang-19"
	"llvm-strip-19 llvm-19"
	"gcc gcc"
	"ip iproute2"
	"nft nftables"
	"iptables iptables"
	"qemu-system-x86_64 qemu-system-x86"
	"cpio cpio"
	"modprobe kmod"
	"xz xz-utils"
	"curl curl"
	"nginx nginx"
	"caddy caddy"
	"haproxy haproxy"
	"redis-server redis-server"
)
# Those of them that Debian would start at once, and at every boot.
services=(nginx caddy haproxy redis-server)
# The sanitisers' and the fuzzer's run-time library has no command of its own.
fuzzer=/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-$(uname -m).a

missing=()
for pair in "${needed[@]}"; do
	read -r command package <<<"$pair"
	command -v "$command" >/dev/null || missing+=("$package")
done
[ -e "$fuzzer" ] || missing+=(libclang-rt-19-dev)
# gcc without its C library's headers can't link; a minimal image may be like that.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)

command -v go >/dev/null || { echo "deps: Go is missing: install Go 1.26 or later" >&2; exit 1; }
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "deps: missing: ${missing[*]} (Debian's names). On Debian or Ubuntu run this as root: $0" >&2
	exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq

# A developer's machine must not listen on port 80 because it runs tests. Installing starts nothing while
# policy-rc.d says no; one that is there already is put back afterwards.
policy=/usr/sbin/policy-rc.d
restore() {
	rm -f "$policy"
	if [ -e "$policy.weir" ] || [ -L "$policy.weir" ]; then mv "$policy.weir" "$policy"; fi
}
trap restore EXIT
trap 'exit 1' INT TERM
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$policy.weir"; fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

# Nor after its next boot. Only what was not there before: whoever has an nginx wants it to run.
for service in "${services[@]}"; do
	[[ " ${missing[*]} " == *" $service "* ]] || continue
	if command -v systemctl >/dev/null; then
		systemctl disable --quiet "$service"
	elif [ -e "/etc/init.d/$service" ]; then
		update-rc.d "$service" disable
	fi
done
