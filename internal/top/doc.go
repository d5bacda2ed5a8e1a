// Package top tells which sources are the busiest and which are denied most, from the events that weir's
// programs emit.
//
// An event is one packet of a sample, and stands for all packets since the sample before it. Their sums
// are estimates, each with an error that is told beside it, of two parts:
//
//   - The sample. A source of which n events of weight w came sent n*w packets, give or take
//     2*sqrt(n*w*(w-1)): two standard deviations of a packet being drawn or not, by chance. 19 of 20
//     estimates are that good or better.
//   - The memory. A source is kept in one of a fixed number of counters: see pkg/topk. One that has come
//     into its counter within the time that is looked at may have sent something before.
//
// There is one ranking each by packets that passed, by packets that were denied, and by bytes that passed, as
// the heaviest by the one need not be kept by the other. They fade with a half-life, so that what was long
// ago gives way; what is shown are the packets of the last seconds, counted second by second.
package top
