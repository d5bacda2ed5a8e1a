#!/usr/bin/env bash
# Puts Debian's cloud kernels where make vm-test boots them from: build/kernels/RELEASE/ with vmlinuz, name, and
# modules/, numbered in the order in which to load them. A kernel that is there already is not downloaded again.
#
#   scripts/vm-kernels.sh RELEASE...     such as 6.1 6.12
#
# Needs a Debian whose package lists have these kernels (12 has both), whatever kernel it runs itself.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the tests need of a kernel: their networks, and weir's hooks where XDP cannot go.
modules=(veth dummy 8021q sch_ingress cls_bpf act_bpf sch_fq)

# The newest image of a release that the package lists have.
package_of() {
	apt-cache pkgnames "linux-image-$1." | grep -E -- "-cloud-amd64$" | sort -V | tail -n 1 || true # none is no error yet
}

# download RELEASE DIR sets package, and downloads it into an empty directory.
download() {
	package=$(package_of "$1")
	mkdir -p "$2"
	[ -n "$package" ] && (cd "$2" && apt-get download -qq -o APT::Sandbox::User=root "$package")
}

# collect ROOT NAME DIR takes out of an unpacked package what a machine boots.
collect() {
	local root=$1 name=$2 dir=$3 n=100 path
	rm -rf "$dir.new"
	mkdir -p "$dir.new/modules"
	depmod -b "$root" "$name"
	# One "insmod PATH" a line, dependencies first; what is built in has no path.
	modprobe -d "$root" -S "$name" --show-depends -a "${modules[@]}" >"$root/order"
	while read -r path; do
		cp "$path" "$dir.new/modules/$n-${path##*/}"
		n=$((n + 1))
	done < <(awk '$1 == "insmod" && !seen[$2]++ { print $2 }' "$root/order")
	find "$dir.new/modules" -name '*.xz' -exec xz -d {} +
	cp "$root/boot/vmlinuz-$name" "$dir.new/vmlinuz"
	echo "$name" >"$dir.new/name"
	rm -rf "$dir"
	mv "$dir.new" "$dir"
}

fetch() {
	local release=$1 dir=build/kernels/$1 have="" package
	[ ! -e "$dir/name" ] || have=$(<"$dir/name")
	package=$(package_of "$release")
	if [ -n "$have" ] && { [ -z "$package" ] || [ "$package" = "linux-image-$have" ]; }; then
		return
	fi
	echo "vm-kernels: downloading Debian's newest $release cloud kernel"
	# Lists that are missing or old name no kernel, or one that the mirror has no more.
	if ! download "$release" "$work/$release" && ! { apt-get update -qq && download "$release" "$work/$release"; }; then
		[ -n "$have" ] && { echo "vm-kernels: that failed; going on with $have"; return; }
		echo "vm-kernels: no cloud kernel $release (want Debian 12's package lists, the network, and root for apt-get update)" >&2
		return 1
	fi
	dpkg-deb -x "$work/$release"/*.deb "$work/$release/root"
	collect "$work/$release/root" "${package#linux-image-}" "$dir"
}

for release; do
	fetch "$release"
done
