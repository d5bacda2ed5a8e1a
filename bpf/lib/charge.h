/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Charges one bucket for one packet: by this CPU's slot if that will do, else in the table. */
#ifndef WEIR_CHARGE_H
#define WEIR_CHARGE_H

#include "key.h"
#include "slot.h"
#include "stats.h"
#include "table.h"

#define CHARGE_GLOBAL __attribute__((noinline))

#define CHARGE_ADMITTED 1
#define CHARGE_DENIED 2
#define CHARGE_STRANGER 4 /* denied: a first-seen source beyond new_sources */

/* Pacing delays a packet for so long at most; fq by itself would hold one for ten seconds. */
#define CHARGE_PACE_MAX bucket_ticks(2ULL * 1000 * 1000 * 1000)

/*
 * One charge, from the first look at the slot to the last swap. One structure, which lives with the
 * entry point and is passed on: a BPF program's frames together have 512 bytes.
 */
struct charge {
	struct table_charge table;
	__u64 hash;  /* of the bucket */
	__u64 now;   /* ticks, exact */
	__u32 rank; /* of the policy */
	__u32 new_sources; /* 1: the rate is that of first-seen sources */
};

static __always_inline struct bucket_set *charge_set(__u64 hash)
{
	__u32 index = hash & table_mask;

	return bpf_map_lookup_elem(&table, &index);
}

static __always_inline struct tag_pair *charge_tags(__u64 hash)
{
	__u32 index = (hash & table_mask) >> 1;

	return bpf_map_lookup_elem(&tags, &index);
}

/* Where in a pair of sets the tags of a hash's set begin. */
static __always_inline __u32 charge_first_tag(__u64 hash)
{
	return (hash & 1) * WEIR_SET_WAYS;
}

static __always_inline __u8 charge_tag(__u64 hash)
{
	return table_fingerprint(hash);
}

/* Says who has the entry that was claimed. */
static __always_inline void charge_mark(const struct charge *c)
{
	struct tag_pair *tags = charge_tags(c->hash);
	__u64 way = c->table.claimed - 1;
	__u8 *first;

	if (!tags || way >= WEIR_SET_WAYS)
		return;
	first = &tags->tag[charge_first_tag(c->hash)];
	/* One step after the other: kernel 6.1 loses track of the sum of both. */
	asm volatile("" : "+r"(first));
	first[way] = charge_tag(c->hash);
}

/* Whether the source has an entry. Of strangers one in 64 has somebody's tag, and is looked for. */
static __always_inline int charge_seen(__u64 hash)
{
	struct tag_pair *tags = charge_tags(hash);
	struct bucket_set *set;

	if (tags) {
		const __u8 *tag = &tags->tag[charge_first_tag(hash)], mine = charge_tag(hash);

		if (tag[0] != mine && tag[1] != mine && tag[2] != mine && tag[3] != mine)
			return 0;
	}
	set = charge_set(hash);
	return !set || table_find(set, table_fingerprint(hash));
}

static __always_inline struct slot *charge_slot(__u64 hash)
{
	__u32 index = bpf_get_smp_processor_id() * WEIR_SLOTS + slot_index(hash);

	return bpf_map_lookup_elem(&slots, &index);
}

static __always_inline __u64 charge_cost(const volatile struct rate *rate, __u64 tokens)
{
	return (tokens * rate->limit.token_time) >> rate->limit.frac_bits;
}

static __always_inline const volatile struct rate *charge_rate(const struct charge *c)
{
	const volatile struct policy *policy = &policies[c->rank & (WEIR_MAX_POLICIES - 1)];

	return c->new_sources ? &policy->new_sources : &policy->rate;
}

/*
 * The functions that follow are global ones, which the verifier walks once, for any argument; so
 * they ask for what can't be. Inlined, the table's hundred paths would multiply with the eight tries,
 * and with the policies before and after (TestVerifierCost in pkg/loader).
 */

/* One try in the table. The limit is copied: the bucket's functions take an ordinary pointer, and to
 * cast volatile away would let the compiler see a constant full of zeroes, and fold it. */
CHARGE_GLOBAL __u32 charge_try(struct charge *c)
{
	const volatile struct rate *rate;
	struct bucket_limit limit;
	struct bucket_entry *e;
	struct bucket_set *set;
	__u32 flags = 0;

	if (!c)
		return TAKE_ADMITTED;
	set = charge_set(c->hash);
	if (!set)
		return TAKE_ADMITTED; /* index <= table_mask, which the verifier can't know */
	e = table_enter(set, table_fingerprint(c->hash), c->now, &c->table, &flags);
	if (!e)
		return flags;
	rate = charge_rate(c);
	limit = (struct bucket_limit){
		.token_time = rate->limit.token_time,
		.depth = rate->limit.depth,
		.burst = rate->limit.burst,
		.frac_bits = rate->limit.frac_bits,
	};
	return flags | table_settle(e, &limit, c->now, &c->table);
}

/* Gives tokens back to a bucket in the table. */
CHARGE_GLOBAL int charge_return(__u64 hash, __u64 cost, __u32 tokens)
{
	struct bucket_set *set = charge_set(hash);

	if (set)
		table_refund(set, table_fingerprint(hash), cost, tokens);
	return 0;
}

/* Charges the bucket in the table, with several tries, and counts what was unusual. */
static __always_inline __u32 charge_table(struct charge *c, struct clock *clock)
{
	__u32 flags = 0;

	c->now = clock_exact(clock);
	c->table.wait = 0;
	for (int i = 0; i < TABLE_TRIES; i++) {
		__u32 took = charge_try(c);

		flags |= took;
		if (!(took & TAKE_RETRY))
			goto taken;
	}
	flags = table_give_up(flags, &c->table);
taken:
	if (flags & TAKE_CLAIMED)
		charge_mark(c);
	flags &= ~TAKE_RETRY;
	if (flags & (TAKE_PRESSURE | TAKE_CONTENDED))
		stats_table(!!(flags & TAKE_PRESSURE), !!(flags & TAKE_CONTENDED));
	return flags & TAKE_ADMITTED;
}

/* What to take for a slot that knows the bucket: the packet's tokens and a lease, less what is left of the
 * last lease. Only where packets differ in cost, in bytes, is anything left. */
static __always_inline void charge_lease(const volatile struct rate *rate, const struct slot *s,
					 struct table_charge *t)
{
	t->more = slot_lease(rate->lease, t->tokens) * t->tokens;
	t->extra = charge_cost(rate, t->more);
	if (!s->credit)
		return;
	t->tokens -= s->credit;
	t->cost = charge_cost(rate, t->tokens);
}

/* Makes a slot the bucket's, and gives back what another bucket's tokens were in it. */
static __always_inline void charge_assign(struct slot *s, __u64 hash, __u64 rate_id)
{
	if (s->credit)
		charge_return(s->hash, slot_worth(s), s->credit);
	slot_assign(s, hash, rate_id);
}

/* Charges the bucket in the table, and notes in the slot what is to be known next time. */
CHARGE_GLOBAL __u32 charge_slow(struct charge *c, struct slot *s, struct clock *clock)
{
	const volatile struct rate *rate;
	__u32 tokens;
	int mine;

	if (!c || !s || !clock)
		return CHARGE_ADMITTED;
	rate = charge_rate(c);
	tokens = c->table.tokens;
	if (tokens > rate->limit.burst)
		return 0; /* more than a full bucket holds: never */
	mine = slot_is(s, c->hash, rate->id);
	if (mine)
		charge_lease(rate, s, &c->table);
	if (!charge_table(c, clock)) {
		if (!c->table.wait)
			return 0; /* not for want of tokens: there is nothing to remember */
		if (!mine)
			charge_assign(s, c->hash, rate->id);
		slot_deny(s, rate->coarse ? bpf_jiffies64() : c->now, c->table.wait,
			  rate->coarse ? jiffy : 0, tokens);
		return 0;
	}
	if (!mine)
		charge_assign(s, c->hash, rate->id);
	s->deny_until = 0;
	s->credit = c->table.took_extra ? c->table.more : 0;
	return CHARGE_ADMITTED;
}

static __always_inline void charge_begin(struct charge *c, __u32 rank, __u64 hash, __u64 tokens)
{
	const volatile struct policy *policy = &policies[rank];

	__builtin_memset(c, 0, sizeof(*c));
	c->table.cost = charge_cost(&policy->rate, tokens);
	c->table.tokens = tokens;
	c->table.evict_debt = policy->on_pressure == ON_PRESSURE_PASS;
	c->hash = hash;
	c->rank = rank;
}

/* What the slot knows of the bucket: CHARGE_ADMITTED, CHARGE_DENIED, or 0 if it does not. */
static __always_inline __u32 charge_by_slot(const volatile struct rate *rate, struct slot *s,
					    __u64 hash, __u64 tokens, struct clock *clock)
{
	if (!slot_is(s, hash, rate->id))
		return 0;
	if (slot_spend(s, tokens))
		return CHARGE_ADMITTED;
	if (!s->deny_until)
		return 0;
	return slot_denies(s, rate->coarse ? bpf_jiffies64() : clock_exact(clock), tokens) ?
		       CHARGE_DENIED : 0;
}

/*
 * Whether a stranger may be charged: 0 if it is one too many. Their bucket is one like any other. Uses c
 * for it, and leaves it as it was.
 */
CHARGE_GLOBAL __u32 charge_stranger(struct charge *c, struct clock *clock)
{
	const volatile struct policy *policy;
	__u32 tokens, flags;
	struct slot *s;
	__u64 hash;

	if (!c || !clock)
		return CHARGE_ADMITTED;
	hash = c->hash;
	policy = &policies[c->rank & (WEIR_MAX_POLICIES - 1)];
	tokens = c->table.tokens;
	c->new_sources = 1;
	c->hash = policy->new_sources_hash;
	c->table.cost = charge_cost(&policy->new_sources, 1);
	c->table.tokens = 1;
	c->table.evict_debt = 1; /* without their bucket no stranger at all would be admitted */
	s = charge_slot(c->hash);
	if (!s)
		return CHARGE_ADMITTED;
	flags = charge_by_slot(&policy->new_sources, s, c->hash, 1, clock);
	if (!flags)
		flags = charge_slow(c, s, clock);
	c->new_sources = 0;
	c->hash = hash;
	c->table.cost = charge_cost(&policy->rate, tokens);
	c->table.tokens = tokens;
	c->table.extra = 0;
	c->table.evict_debt = policy->on_pressure == ON_PRESSURE_PASS;
	return flags & CHARGE_ADMITTED;
}

/*
 * Charges a policy's bucket. Most packets end in the slot. c is a place to work in, of which the caller
 * need know nothing: most packets never touch it.
 */
static __always_inline __u32 charge(__u32 rank, __u64 hash, __u64 tokens, struct charge *c,
				    struct clock *clock)
{
	const volatile struct policy *policy = &policies[rank];
	struct slot *s = charge_slot(hash);
	__u32 known;

	if (!s)
		return CHARGE_ADMITTED; /* the index is below WEIR_SLOTS for each CPU */
	known = charge_by_slot(&policy->rate, s, hash, tokens, clock);
	if (known)
		return known;
	charge_begin(c, rank, hash, tokens);
	if (policy->new_sources.limit.burst && !charge_seen(hash) && !charge_stranger(c, clock))
		return CHARGE_STRANGER;
	return charge_slow(c, s, clock);
}

/* Charges a policy that paces, and says how long the packet has to wait. No slot knows of those: what
 * counts is when each packet came. */
static __always_inline __u32 charge_paced(__u32 rank, __u64 hash, __u64 tokens, struct charge *c,
					  struct clock *clock)
{
	c->table.wait = 0;
	if (tokens > policies[rank].rate.limit.burst)
		return 0; /* as charge_slow: never, and the cost may have overflowed */
	charge_begin(c, rank, hash, tokens);
	c->table.ahead = CHARGE_PACE_MAX;
	return charge_table(c, clock);
}

/* Gives a packet's tokens back: to the slot while its lease has room for them, else to the table. */
static __always_inline void charge_refund(const volatile struct policy *policy, __u64 hash,
					  __u64 tokens)
{
	struct slot *s = charge_slot(hash);

	if (s && !policy->pace && slot_is(s, hash, policy->rate.id) &&
	    s->credit + tokens <= policy->rate.lease)
		s->credit += tokens;
	else
		charge_return(hash, charge_cost(&policy->rate, tokens), tokens);
}

#endif
