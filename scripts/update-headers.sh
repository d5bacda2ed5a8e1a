#!/usr/bin/env bash
# Vendors the few headers that the BPF programs include, so that clang alone can build them.
#
#   scripts/update-headers.sh            check headers/ against headers/SHA256SUMS
#   scripts/update-headers.sh --update   copy them anew from the Debian packages libbpf-dev and
#                                        linux-libc-dev, and rewrite SHA256SUMS and VERSIONS
set -euo pipefail
cd "$(dirname "$0")/../headers"

check() { sha256sum --quiet --check SHA256SUMS && echo "headers: all as recorded in headers/SHA256SUMS"; }

update() {
	local work; work=$(mktemp -d); trap 'rm -rf "$work"' RETURN
	(cd "$work" && apt-get download libbpf-dev linux-libc-dev >/dev/null && for p in ./*.deb; do dpkg-deb -x "$p" root; done)
	local from=$work/root/usr/include
	mkdir -p bpf linux asm-generic LICENSES
	cp "$from"/bpf/{bpf_helpers,bpf_helper_defs,bpf_endian}.h bpf/
	cp "$from"/linux/{bpf,bpf_common,types,posix_types,stddef,if_ether}.h linux/
	cp "$from"/asm-generic/{types,int-ll64,bitsperlong,posix_types}.h asm-generic/
	cp "$work/root/usr/share/doc/libbpf-dev/copyright" LICENSES/libbpf-dev.copyright
	cp "$work/root/usr/share/doc/linux-libc-dev/copyright" LICENSES/linux-libc-dev.copyright
	(cd "$work" && for p in ./*.deb; do dpkg-deb -W "$p"; done) >VERSIONS
	find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS
}

case "${1:-}" in
"") check ;;
--update) update && check ;;
*) echo "usage: $0 [--update]" >&2; exit 2 ;;
esac
