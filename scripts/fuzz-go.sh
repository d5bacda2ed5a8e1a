#!/bin/sh
# Runs each fuzz test of pkg/ for so many seconds, 10 without being told. What is found is kept as a test case under
# testdata/fuzz of its package: commit it with the mend.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-10}
for file in $(git ls-files 'pkg/*_test.go' | xargs grep -l '^func Fuzz'); do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(f \*testing.F).*/\1/p' "$file"); do
		echo "$name of $(dirname "$file")"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "${seconds}s" "./$(dirname "$file")"
	done
done
