#!/usr/bin/env bash
# Installs what building and testing need beyond Go: clang 19 for the BPF programs and for the native
# tests, what boots other kernels, and the firewalls that weir bench compares with. On Debian and Ubuntu, as root;
# elsewhere it says what is missing. "make build" and "make demo" need none of it, and "make bench" leaves out what
# is not there.
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
)
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
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
