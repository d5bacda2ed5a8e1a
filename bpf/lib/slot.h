/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Per-CPU slots: what stands in front of the bucket table. One CPU's slot for a bucket holds either
 * credit, tokens that were taken from the bucket at once and are spent without a clock and without
 * an atomic, or a horizon before which the bucket is known to deny. Pure C over one slot.
 *
 * The bound. Credit was debited from the bucket before it is spent, so no token counts twice; but it
 * may be spent later than it was taken. With n CPUs and a lease of at most burst / (16 n), in any
 * interval t a source is admitted
 *
 *     burst + rate * t + n * lease  <=  (1 + 1/16) burst + rate * t.
 *
 * A slot whose bucket changes gives its credit back first. The horizon errs only towards denial: it
 * is the instant at which the next token is due if nobody else takes it, it lasts 64 ms at most, so
 * that a bucket that is refunded is asked again soon, and it may be timed by jiffies, which make it
 * last one longer at most. They are used where a burst outlasts two of them: what the bucket gains in
 * the meantime is then not lost.
 *
 * A slot belongs to one CPU. Programs run there one after the other, with migration and softirqs
 * disabled, so that plain loads and stores will do. Two exceptions, each of one packet's cost or one
 * lease: a test run of the program on kernels before 6.10, which a softirq may interrupt; and user
 * space that clears a slot while it changes.
 */
#ifndef WEIR_SLOT_H
#define WEIR_SLOT_H

#include "bucket.h"

/* A rate's id: its token_time, of 55 bits at most (a token a day), with its frac_bits above. */
#define SLOT_FRAC_SHIFT 58

#define SLOT_HORIZON_MAX bucket_ticks(64ULL * 1000 * 1000) /* 64 ms */

/* Packets that a lease is for, beyond the one that asks for it. More would save little: with 64 the
 * bucket's share in a packet's cost is a nanosecond or two. */
#define SLOT_LEASE_PACKETS 63

/* The slot's index, from bits that do not choose the bucket's set. */
static __always_inline __u32 slot_index(__u64 hash)
{
	return hash >> 48 & (WEIR_SLOTS - 1);
}

/* A policy that gives its tokens at another pace than before does not believe what a slot has of it. */
static __always_inline int slot_is(const struct slot *s, __u64 hash, __u64 rate_id)
{
	return s->hash == hash && s->rate_id == rate_id;
}

/* Pays from the slot's credit: 1 if there was enough. */
static __always_inline int slot_spend(struct slot *s, __u64 tokens)
{
	if (s->credit < tokens)
		return 0;
	s->credit -= tokens;
	return 1;
}

/* What the slot's credit cost its bucket, whatever policies there are today. */
static __always_inline __u64 slot_worth(const struct slot *s)
{
	const struct bucket_limit l = {
		.token_time = s->rate_id & ((1ULL << SLOT_FRAC_SHIFT) - 1),
		.frac_bits = s->rate_id >> SLOT_FRAC_SHIFT,
	};

	return bucket_cost(&l, s->credit);
}

/* Whether the horizon holds. One that is farther ahead than any that was ever set is a very old one, from
 * before the ticks wrapped: a signed comparison would believe it for a year. */
static __always_inline int slot_denies(const struct slot *s, __u64 now, __u64 tokens)
{
	return s->deny_until - now - 1 < 2 * SLOT_HORIZON_MAX && tokens >= s->deny_tokens;
}

/*
 * How many more packets like this one to lease. None for a source that is new to the slot: most of
 * those never come back, and each lease that is not spent has to be given back.
 */
static __always_inline __u32 slot_lease(__u32 lease, __u32 tokens)
{
	__u32 packets = tokens > 1 ? lease / tokens : lease;

	return packets < SLOT_LEASE_PACKETS ? packets : SLOT_LEASE_PACKETS;
}

/* Makes the slot this bucket's. What credit it had is the caller's to give back. */
static __always_inline void slot_assign(struct slot *s, __u64 hash, __u64 rate_id)
{
	s->hash = hash;
	s->rate_id = rate_id;
	s->credit = 0;
	s->deny_until = 0;
}

/*
 * Remembers a denial of tokens that would pass after wait, which is in ticks. now is in ticks too if
 * jiffy is 0; else it counts jiffies of so many ns, and of the present one an unknown part has passed.
 */
static __always_inline void slot_deny(struct slot *s, __u64 now, __u64 wait, __u32 jiffy,
				      __u64 tokens)
{
	if (wait > SLOT_HORIZON_MAX)
		wait = SLOT_HORIZON_MAX;
	s->deny_until = now + (jiffy ? (__u32)(wait >> BUCKET_TICK_SHIFT) / jiffy + 1 : wait);
	s->deny_tokens = tokens;
}

#endif
