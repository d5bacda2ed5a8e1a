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
#define BUCKET_SKEW_MAX (1ULL << 38)          /* 1.07 s: more than a CPU is ever late, see bucket_charge */

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
 * Decides whether what costs so many ticks may pass at now, and writes the TAT that the bucket has
 * afterwards to *next: unchanged on a denial, with one exception. A debt beyond the depth can only
 * come from a policy that was tightened since; a bucket cannot be emptier than empty, so such a debt
 * is cut to the depth, and a source does not wait out what an older, slower policy made it owe. By
 * less than BUCKET_SKEW_MAX it may as well be that this CPU is late: that others went on charging
 * while it was kept from running (a virtual one, say) between its look at the clock and here. To cut
 * then would forget what they charged.
 */
static __always_inline int bucket_charge(const struct bucket_limit *l, __u64 tat, __u64 now,
					 __u64 cost, __u64 *next)
{
	__u64 debt = bucket_debt(tat, now);

	*next = tat;
	if (debt > l->depth + BUCKET_SKEW_MAX) {
		*next = now + l->depth;
		return 0;
	}
	if (debt + cost > l->depth)
		return 0;
	*next = now + debt + cost;
	return 1;
}

/* bucket_charge by tokens. */
static __always_inline int bucket_take(const struct bucket_limit *l, __u64 tat, __u64 now,
				       __u64 tokens, __u64 *next)
{
	*next = tat;
	if (tokens > l->burst)
		return 0; /* more than a full bucket holds: never */
	return bucket_charge(l, tat, now, bucket_cost(l, tokens), next);
}

/* How long after now a cost of at most the depth is admitted, if nobody else is until then. */
static __always_inline __u64 bucket_wait(const struct bucket_limit *l, __u64 tat, __u64 now,
					 __u64 cost)
{
	__u64 debt = bucket_debt(tat, now);

	if (debt > l->depth)
		debt = l->depth;
	return debt + cost > l->depth ? debt + cost - l->depth : 0;
}

/* The tokens that a bucket's time is worth, rounded down; the inverse of bucket_cost. ticks are
 * less than 2^47 where there are fractions, as the products of bucket_cost are below 2^63. */
static __always_inline __u64 bucket_tokens(const struct bucket_limit *l, __u64 ticks)
{
	return (ticks << l->frac_bits) / l->token_time;
}

/*
 * Pacing: admits a cost that is over the limit too, if it need not wait longer than ahead, and says
 * how long that is. The TAT so runs ahead of what the depth allows by as much as is delayed.
 */
static __always_inline int bucket_pace(const struct bucket_limit *l, __u64 tat, __u64 now,
				       __u64 cost, __u64 ahead, __u64 *next, __u64 *wait)
{
	__u64 debt = bucket_debt(tat, now);

	*next = tat;
	*wait = debt + cost > l->depth ? debt + cost - l->depth : 0;
	if (*wait > ahead)
		return 0;
	*next = now + debt + cost;
	return 1;
}

/*
 * The TAT of a bucket that gets back what cost so many ticks. Never more than was taken: a debt that
 * has run out meanwhile stays in the past.
 */
static __always_inline __u64 bucket_refund(__u64 tat, __u64 cost)
{
	return tat - cost;
}

#endif
