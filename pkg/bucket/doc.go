// Package bucket is the Go twin of bpf/lib/bucket.h, key.h and table.h: the same token buckets, in
// the same memory, to the bit. The kernel charges them for packets; user space reads, resets and
// charges them through a mapping of the same BPF array, and everything that has no kernel at hand
// uses them over the heap.
//
// # The algorithm
//
// A bucket is one number, the theoretical arrival time (TAT) of the generic cell rate algorithm
// (ITU-T I.371, "virtual scheduling"): the instant at which it will be full again. A bucket whose
// TAT is past is full, and carries no information; the table rests on that, for such an entry can be
// given to another source without forgetting anything.
//
// # Time
//
// Instants and durations are [Ticks] of 1/256 ns. The counter wraps every 2.28 years. Instants are
// therefore compared by their distance, and a wrap is an instant like any other.
package bucket
