#!/usr/bin/env bash
# Builds the Traefik that test/integration puts in front of weir: build/traefik, from its Go module. Debian has none.
# It has hundreds of modules to download and compile, which is why make test does not do it.
# "go install" refuses a module with replacements, so its source becomes a main module here.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${TRAEFIK_VERSION:-v3.6.12}
source=$PWD/build/traefik-$version

module=$(go mod download -json "github.com/traefik/traefik/v3@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
[ -f "$module/cmd/traefik/traefik.go" ] || { echo "traefik: no source of $version (is it a version of github.com/traefik/traefik/v3?)" >&2; exit 1; }
rm -rf "$source"
mkdir -p "$source"
trap 'rm -rf "$source"' EXIT
cp -r "$module/." "$source"
chmod -R u+w "$source"
cd "$source"
CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -ldflags '-s -w' -o ../traefik ./cmd/traefik
