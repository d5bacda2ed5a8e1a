/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Applies the policies to a packet. The loader has sorted them: those that enforce before those in
 * shadow, each by priority. All that enforce are charged, or none.
 */
#ifndef WEIR_POLICE_H
#define WEIR_POLICE_H

#include "key.h"
#include "maps.h"
#include "stats.h"
#include "table.h"

#define POLICE_GLOBAL __attribute__((noinline))

static __always_inline __u64 police_cost(const volatile struct policy *policy,
					 const struct packet *p)
{
	return policy->unit == UNIT_BYTES ? p->length : p->segments;
}

static __always_inline struct bucket_set *police_set(__u64 hash)
{
	__u32 index = hash & table_mask;

	return bpf_map_lookup_elem(&table, &index);
}

/*
 * A copy of the limit. The bucket's functions take an ordinary pointer; to cast volatile away instead
 * would let the compiler see a constant full of zeroes, and fold it.
 */
static __always_inline struct bucket_limit police_limit(const volatile struct policy *policy)
{
	return (struct bucket_limit){
		.token_time = policy->limit.token_time,
		.depth = policy->limit.depth,
		.burst = policy->limit.burst,
		.frac_bits = policy->limit.frac_bits,
	};
}

/* Charges one policy's bucket: 1 if it admits the packet. */
static __always_inline int police_take(const volatile struct policy *policy, const struct packet *p,
				       __u64 now)
{
	struct bucket_limit limit = police_limit(policy);
	__u64 hash = key_hash(policy, p);
	struct bucket_set *set = police_set(hash);
	__u32 took;

	if (!set)
		return 1; /* index <= table_mask, which the verifier can't know */
	took = table_take(set, table_fingerprint(hash), &limit, now, police_cost(policy, p),
			  policy->on_pressure == ON_PRESSURE_PASS);
	if (took & (TAKE_PRESSURE | TAKE_CONTENDED))
		stats_table(!!(took & TAKE_PRESSURE), !!(took & TAKE_CONTENDED));
	return took & TAKE_ADMITTED;
}

/*
 * The two that follow are global functions, which the verifier walks once, for any rank. Inlined into
 * the loops below, it walks them for every policy, and more than once for every way that the one
 * before could go: a mixture of eight was too much for it (TestVerifierCost in pkg/loader).
 */
POLICE_GLOBAL int police_take_at(__u32 rank, const struct packet *p, __u64 now)
{
	if (rank >= WEIR_MAX_POLICIES || !p)
		return 1; /* never so, but a function that is walked for any argument has to ask */
	return police_take(&policies[rank], p, now);
}

/* Gives back what the policy at rank took from a packet that a later one denies. */
POLICE_GLOBAL int police_refund_at(__u32 rank, const struct packet *p)
{
	const volatile struct policy *policy;
	struct bucket_limit limit;
	struct bucket_set *set;
	__u64 hash;

	if (rank >= WEIR_MAX_POLICIES || !p)
		return 0;
	policy = &policies[rank];
	limit = police_limit(policy);
	hash = key_hash(policy, p); /* again: 64 hashes would fill the stack */
	set = police_set(hash);
	if (set)
		table_refund(set, table_fingerprint(hash), &limit, police_cost(policy, p));
	return 0;
}

/* One policy is the usual number, and a call is not free: the first is inlined. */
static __always_inline int police_admits(__u32 rank, const struct packet *p, __u64 now)
{
	return rank ? police_take_at(rank, p, now) : police_take(&policies[0], p, now);
}

/* Charges the policies that enforce: all of them, or none. */
static __always_inline enum verdict police_enforce(const struct packet *p, __u64 now)
{
	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < enforce_count; i++) {
		if (police_admits(i, p, now))
			continue;
		stats_policy(policies[i].slot, VERDICT_DROP, p);
		for (__u32 j = 0; j < WEIR_MAX_POLICIES && j < i; j++)
			police_refund_at(j, p);
		return VERDICT_DROP;
	}
	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < enforce_count; i++)
		stats_policy(policies[i].slot, VERDICT_PASS, p);
	return VERDICT_PASS;
}

/* Charges the policies in shadow, each by itself: what they deny is counted, and passes. */
static __always_inline void police_shadow(const struct packet *p, __u64 now)
{
	for (__u32 i = enforce_count; i < WEIR_MAX_POLICIES && i < policy_count; i++) {
		enum verdict v = police_admits(i, p, now) ? VERDICT_PASS : VERDICT_SHADOW_DROP;

		stats_policy(policies[i].slot, v, p);
	}
}

/*
 * The verdict on a packet. The policy that denies it is the one that counts the drop; the others
 * count nothing, for them the packet has not been. Those in shadow see what the enforcing ones let
 * through: what they would see if they enforced.
 */
static __always_inline enum verdict police(const struct packet *p, __u64 now)
{
	if (police_enforce(p, now) == VERDICT_DROP)
		return VERDICT_DROP;
	police_shadow(p, now);
	return VERDICT_PASS;
}

#endif
