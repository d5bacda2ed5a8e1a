#!/usr/bin/env bash
# Boots other Linux kernels under qemu (in software, no KVM) and runs the BPF tests on them: that the
# verifier takes the program with 0 to 64 policies, and that the kernel's JIT agrees with Go on every vector.
#
#   scripts/test-kernels.sh [RELEASE...]     Debian's cloud kernels; default: 6.1 and 6.12
#
# Needs root on Debian: it downloads the kernels' packages, and installs qemu-system-x86 and cpio.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 6.1 6.12
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v qemu-system-x86_64 cpio >/dev/null || {
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends qemu-system-x86 cpio >/dev/null
}

# The newest image of a release that the package lists have.
package_of() {
	apt-cache pkgnames "linux-image-$1." | grep -E -- "-cloud-amd64$" | sort -V | tail -n 1
}

build_initrd() {
	local root=$work/root
	mkdir -p "$root"/{proc,sys,dev,tmp,tests,repository/test/progrun,repository/testdata}
	CGO_ENABLED=0 go build -o "$root/init" ./test/kernels
	CGO_ENABLED=0 go test -c -o "$root/tests/progrun.test" ./test/progrun
	CGO_ENABLED=0 go test -c -o "$root/tests/loader.test" ./pkg/loader
	cp -r testdata/vectors "$root/repository/testdata/"
	(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"
}

boot() {
	local package; package=$(package_of "$1")
	[ -n "$package" ] || { echo "no cloud kernel $1 in the package lists (apt-get update?)" >&2; return 1; }
	(cd "$work" && apt-get download -qq "$package" 2>/dev/null && dpkg-deb -x "$package"_*.deb "$1")
	echo "== $package"
	timeout 300 qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 2 -nographic -no-reboot \
		-kernel "$work/$1"/boot/vmlinuz-* -initrd "$work/initrd.gz" \
		-append "console=ttyS0 quiet panic=-1 -- -test.run=Verifier|Vectors -test.v" 2>&1 |
		tr -d '\r' | grep -E '^(===|---|PASS|FAIL|ok|kernels:| )|_test.go' | tee "$work/log"
	grep -q '^kernels: 0 steps failed' "$work/log"
}

build_initrd
for release; do
	boot "$release"
done
