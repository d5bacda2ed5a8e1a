#!/usr/bin/env bash
# Fails if a generated file is not what its source makes. Another clang makes other objects of the same
# source, so they are compared only where the clang is the one that the committed objects were made with.
set -euo pipefail
cd "$(dirname "$0")/.."
pinned=19.1.7

scripts/update-headers.sh
found=$(clang-19 -dumpversion)
if [ "$found" != "$pinned" ]; then
	echo "generated: made by clang $pinned, this is $found: the objects are used as committed" >&2
	exit 0
fi
before=$(git status --porcelain)
go generate ./...
if [ "$(git status --porcelain)" != "$before" ] || ! git diff --quiet -- '*_bpfe[lb].go' '*.o'; then
	git diff --stat -- '*_bpfe[lb].go' '*.o' >&2
	echo "generated: files differ from their sources (run: make generate, and commit)" >&2
	exit 1
fi
echo "generated: all as their sources make them, with clang $found"
