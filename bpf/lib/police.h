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

static __always_inline __u64 police_cost(const volatile struct policy *policy,
					 const struct packet *p)
{
	return policy->unit == UNIT_BYTES ? p->length : 1;
}

static __always_inline struct bucket_set *police_set(__u64 hash)
{
	__u32 index = hash & table_mask;

	return bpf_map_lookup_elem(&table, &index);
}

/* Charges one policy's bucket: 1 if it admits the packet. */
static __always_inline int police_take(const volatile struct policy *policy, const struct packet *p,
				       __u64 now)
{
	__u64 hash = key_hash(policy, p);
	struct bucket_set *set = police_set(hash);
	__u32 took;

	if (!set)
		return 1; /* index <= table_mask, which the verifier can't know */
	took = table_take(set, table_fingerprint(hash), (const struct bucket_limit *)&policy->limit,
			  now, police_cost(policy, p), policy->on_pressure == ON_PRESSURE_PASS);
	if (took & (TAKE_PRESSURE | TAKE_CONTENDED))
		stats_table(!!(took & TAKE_PRESSURE), !!(took & TAKE_CONTENDED));
	return took & TAKE_ADMITTED;
}

/* Gives back what the policies before the denying one took. Hashes again: to keep 64 hashes would
 * fill the stack, and only a packet that a second policy denies comes here. */
static __always_inline void police_refund(__u32 denied, const struct packet *p)
{
	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < denied; i++) {
		const volatile struct policy *policy = &policies[i];
		__u64 hash = key_hash(policy, p);
		struct bucket_set *set = police_set(hash);

		if (set)
			table_refund(set, table_fingerprint(hash),
				     (const struct bucket_limit *)&policy->limit,
				     police_cost(policy, p));
	}
}

static __always_inline void police_count_passes(const struct packet *p, __u64 shadow_denied)
{
	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < policy_count; i++)
		if (!(shadow_denied >> i & 1))
			stats_policy(policies[i].slot, VERDICT_PASS, p->length);
}

/*
 * The verdict on a packet. The policy that denies it is the one that counts the drop; the others
 * count nothing, for them the packet has not been. A policy in shadow is charged for what the
 * enforcing ones let through, and never drops.
 */
static __always_inline enum verdict police(const struct packet *p, __u64 now)
{
	__u64 shadow_denied = 0;

	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < policy_count; i++) {
		const volatile struct policy *policy = &policies[i];

		if (police_take(policy, p, now))
			continue;
		if (policy->mode == MODE_SHADOW) {
			stats_policy(policy->slot, VERDICT_SHADOW_DROP, p->length);
			shadow_denied |= 1ULL << i;
			continue;
		}
		stats_policy(policy->slot, VERDICT_DROP, p->length);
		police_refund(i, p);
		return VERDICT_DROP;
	}
	police_count_passes(p, shadow_denied);
	return VERDICT_PASS;
}

#endif
