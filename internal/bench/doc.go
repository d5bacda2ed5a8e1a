// Package bench measures what a packet costs weir in the kernel, beside a program that only drops, a token bucket in an
// LRU_PERCPU_HASH, and the limiters of nftables and iptables, in one run on one machine.
//
// # Method
//
// In most sections the kernel runs a program on one packet in memory, many times, and tells the mean (BPF_PROG_TEST_RUN): no
// driver, no interrupt, no wire. The program is the shipped one, as it is. For more than one source bpf/bench/driver.bpf.c gives
// the packet another one each time and jumps into it; there, every figure has the driver in it, that of the bare drop too.
//
// In the section "live" the kernel makes frames (BPF_F_TEST_XDP_LIVE_FRAMES), bpf/bench/sender.bpf.c gives each a source and
// redirects it into a cable between two namespaces, and the program is attached at the other end. One CPU does both: after
// each batch of 64 the receiver's NAPI runs where the batch was sent, so no ring overflows, and the time from one frame to the
// next is what sending and receiving it cost together. Counted is what the receiver processed.
//
// The contenders take turns on one CPU, a round after the other (A B C, A B C ...), and a comparison is made of the figures of
// one round: what disturbs the machine for a while disturbs all of them. Of the rounds the median counts, and the quartiles
// tell how much they differ. A turn begins with packets that are not counted, where it takes some until caches and buckets are
// again as they stay. The thread that measures has a real-time priority, so that nobody comes between.
//
// # What makes a row true
//
// A row says how many sources there are and what becomes of their packets, and a mistake in the set-up would quietly
// measure something cheaper. So the contenders' own counters are read before and after: the verdicts have to be those that the
// row claims, on 99 % of the packets; a limiter of live frames has to admit what its limit allows, no more and no less; and
// what was sent has to have been processed. A figure that fails is void ([Report.Void]).
package bench
