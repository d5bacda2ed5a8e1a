// Package topk keeps the heaviest keys of a stream in a fixed amount of memory.
//
// # The algorithm
//
// Space-Saving (A. Metwally, D. Agrawal, A. El Abbadi: Efficient Computation of Frequent and Top-k
// Elements in Data Streams, ICDT 2005), with weights. A [Sketch] has k counters. A key that has one
// is charged on it; one that has none takes over the smallest, with what is on it, which from then on is
// the key's possible error. So, with N the weight of the whole stream,
//
//	true weight <= Count <= true weight + Error    of a key that is kept
//	true weight <= Min <= N/k                      of one that is not
//
// and every key of more than N/k is kept. The counters are a heap: a charge costs O(log k), and
// allocates nothing.
//
// # Time
//
// With a half-life all of the above holds for decayed weights: what was charged one half-life ago counts
// half. It is forward decay (G. Cormode et al.: Forward Decay, ICDE 2009): instead of all the counters
// becoming lighter, what is charged becomes heavier, and their order never changes by itself.
package topk
