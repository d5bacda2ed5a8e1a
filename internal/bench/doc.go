// Package bench measures what a packet costs weir in the kernel, beside a program that only drops and beside a token bucket
// in an LRU_PERCPU_HASH, in one run on one machine.
//
// # Method
//
// The kernel runs a program on one packet in memory, many times, and tells the mean (BPF_PROG_TEST_RUN): no driver, no
// interrupt, no wire. The program is the shipped one, as it is. For more than one source bpf/bench/driver.bpf.c gives the
// packet another one each time and jumps into it; there, every figure has the driver in it, that of the bare drop too.
//
// The contenders take turns on one CPU, a round after the other: what disturbs the machine for a while disturbs all of them.
// Where the buckets of all sources fit the caches, a turn begins with packets that are not counted, until they are there
// again. Of the rounds, the median counts, and the quartiles tell how much they differ.
//
// # What makes a row true
//
// A row says how many sources there are and what becomes of their packets, and a mistake in the set-up would quietly
// measure something cheaper. So the programs' own counters are read before and after, and [Run] fails with [ErrVerdict]
// unless 99 % of the packets met the fate that the row claims.
package bench
