/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The token bucket as a GCRA (ITU-T I.371, "virtual scheduling"): the state is one number, the
 * theoretical arrival time at which the bucket will be full again. Pure C: the clock and the state
 * are arguments, so the same lines run in the kernel, in the native tests and in the fuzzer, and
 * pkg/bucket repeats them in Go to the bit.
 *
 * Time is counted in ticks of 1/256 ns. At 100 M packets/s a token takes 2560 of them, so that
 * rounding it to whole ticks moves the rate by 0.02 % at most. A byte may take less than a tick's
 * fraction; byte limits keep frac_bits more places and round each packet's cost down, which costs
 * less than 1/2560 as long as packets are 10 ns or more apart.
 *
 * The counter wraps every 2.28 years, and nothing happens then: instants are compared by their
 * distance (RFC 1982), and no distance that means anything is larger than BUCKET_DEPTH_MAX.
 */
#ifndef WEIR_BUCKET_H
#define WEIR_BUCKET_H

#include "types.h"

#define BUCKET_TICK_SHIFT 8                   /* ticks per nanosecond, as a power of two */
#define BUCKET_DEPTH_MAX (1ULL << 61)         /* 104 days: the longest that a bucket may take to fill */
#define BUCKET_SKEW_MAX (1ULL << 28)          /* 1.05 ms: more than two CPUs' clocks ever differ */

static __always_inline __u64 bucket_ticks(__u64 ns)
{
	return ns << BUCKET_TICK_SHIFT;
}

/*
 * How long the bucket needs from now on to be full: 0 for a full one, depth for an empty one.
 *
 * A TAT in the past says no more than "full". max(tat, now) is also what makes clocks harmless that
 * were read out of order on two CPUs. A TAT farther in the future than any limit allows is a very
 * old one, from before the counter wrapped, and so in the past as well.
 */
static __always_inline __u64 bucket_debt(__u64 tat, __u64 now)
{
	__s64 ahead = (__s64)(tat - now);

	if (ahead <= 0 || (__u64)ahead > BUCKET_DEPTH_MAX + BUCKET_SKEW_MAX)
		return 0;
	return (__u64)ahead;
}

/* What tokens cost in ticks. tokens <= burst keeps the product below 2^63: see pkg/bucket. */
static __always_inline __u64 bucket_cost(const struct bucket_limit *l, __u64 tokens)
{
	return (tokens * l->token_time) >> l->frac_bits;
}

/*
 * Decides whether tokens may pass at now, and writes the TAT that the bucket has afterwards to
 * *next: unchanged on a denial, with one exception. A debt beyond the depth can only come from a
 * policy that was tightened since; a bucket cannot be emptier than empty, so such a debt is cut to
 * the depth, and a source does not wait out what an older, slower policy made it owe.
 */
static __always_inline int bucket_take(const struct bucket_limit *l, __u64 tat, __u64 now,
				       __u64 tokens, __u64 *next)
{
	__u64 debt = bucket_debt(tat, now);
	__u64 cost;

	*next = tat;
	if (tokens > l->burst)
		return 0; /* more than a full bucket holds: never */
	if (debt > l->depth + BUCKET_SKEW_MAX) {
		*next = now + l->depth;
		return 0;
	}
	cost = bucket_cost(l, tokens);
	if (debt + cost > l->depth)
		return 0;
	*next = now + debt + cost;
	return 1;
}

/*
 * The TAT of a bucket that gets tokens back. Never more than was taken: the cost is the same, and a
 * debt that has run out meanwhile stays in the past.
 */
static __always_inline __u64 bucket_refund(const struct bucket_limit *l, __u64 tat, __u64 tokens)
{
	return tat - bucket_cost(l, tokens);
}

#endif
