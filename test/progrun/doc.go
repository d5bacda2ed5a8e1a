// Package progrun tests the BPF programs in the kernel, by BPF_PROG_TEST_RUN: the shipped one on tables
// of packets and on floods, on all CPUs at once, and against a reference in Go on random scenarios (TestDifferential, by the
// clocks of test/internal/bpfclock); and the headers that it is made of on the vectors that drive C and Go as well.
package progrun

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel,bpfeb -type vector vectors ../../bpf/test/vectors.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc -I../../headers
