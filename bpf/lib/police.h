/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Applies the policies to a packet. The loader has sorted them: those that enforce before those in
 * shadow, each by priority; a policy's rank is its place in that order. All that enforce are charged,
 * or none.
 */
#ifndef WEIR_POLICE_H
#define WEIR_POLICE_H

#include "charge.h"
#include "hot.h"
#include "match.h"

static __always_inline __u64 police_tokens(const volatile struct policy *policy,
					   const struct packet *p)
{
	__u64 tokens = policy->unit == UNIT_BYTES ? p->length : p->segments;

	/* The stack joins packets of a stream, which can't be taken apart here: one that alone is
	 * more than a bucket holds empties it, or nothing of the stream would ever pass. */
	if (p->segments > 1 && tokens > policy->rate.limit.burst)
		tokens = policy->rate.limit.burst;
	return tokens;
}

/* Has the packet wait for a policy: of several, the longest wait is the one that counts. */
static __always_inline void police_delay(__u32 rank, __u64 wait, const struct packet *p,
					 struct departure *departure)
{
	if (wait > departure->delay)
		departure->delay = wait;
	departure->paced |= 1ULL << rank;
	stats_paced(policies[rank].slot, p);
}

/* Charges one policy's bucket, and counts what it admits. Returns CHARGE_ flags. */
static __always_inline __u32 police_charge(__u32 rank, const struct packet *p, __u32 used,
					   struct clock *clock, struct departure *departure)
{
	const volatile struct policy *policy = &policies[rank];
	__u64 tokens = police_tokens(policy, p), hash = key_hash(policy, p);
	struct charge c;
	__u32 flags;

	if (used & USE_RECONCILED)
		hot_begin(&c.table);
	if (used & USE_PACE && policy->pace) {
		flags = charge_paced(rank, hash, tokens, &c, clock);
		if ((flags & CHARGE_ADMITTED) && c.table.wait)
			police_delay(rank, c.table.wait, p, departure);
	} else {
		flags = charge(rank, hash, tokens, &c, clock);
	}
	if (!(flags & CHARGE_ADMITTED))
		return flags;
	if (uses & USE_RECONCILED && hot_passed(&c.table)) /* not used: it would take a place on the stack */
		hot_announce(p, rank, &c.table, c.hash);
	stats_policy(policy->slot, VERDICT_PASS, p);
	return flags;
}

/* The same for the verifier to walk once, and not for every policy with all that was before it. */
CHARGE_GLOBAL __u32 police_charge_at(__u32 rank, const struct packet *p, struct clock *clock,
				     struct departure *departure)
{
	if (rank >= WEIR_MAX_POLICIES || !p || !clock || !departure)
		return CHARGE_ADMITTED;
	return police_charge(rank, p, uses, clock, departure);
}

/* Gives back what the policies in applied took from a packet that a later one, at rank, denies: for
 * them it has not been, and for those in paced it did not wait. */
CHARGE_GLOBAL int police_refund(__u64 applied, __u32 rank, const struct packet *p, __u64 paced)
{
	if (!p)
		return 0;
	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < enforce_count; i++) {
		const volatile struct policy *policy = &policies[i];

		/* The hash is made again: 64 of them would fill the stack. */
		if (i >= rank || !(applied >> i & 1))
			continue;
		charge_refund(policy, key_hash(policy, p), police_tokens(policy, p));
		stats_undo_pass(policy->slot, p);
		if (uses & USE_PACE && (paced >> i & 1))
			stats_undo_paced(policy->slot, p);
	}
	return 0;
}

/* Counts a denial by the policy at rank, and says so in the ruling. */
static __always_inline void police_deny(__u32 rank, const struct packet *p, enum verdict verdict,
					enum cause cause, struct ruling *r)
{
	__u32 slot = policies[rank].slot;

	stats_policy(slot, verdict, p);
	if (cause == CAUSE_STRANGER)
		stats_stranger(slot, p);
	if (r->verdict != VERDICT_PASS)
		return; /* of several in shadow the first is told */
	r->verdict = verdict;
	r->cause = cause;
	r->slot = slot;
}

/* The same for the verifier to walk once, and not in each turn of a loop: kernels before 6.2 give up at
 * 64 policies otherwise (TestVerifierCost in pkg/loader). */
CHARGE_GLOBAL int police_deny_at(__u32 rank, const struct packet *p, enum verdict verdict,
				 enum cause cause, struct ruling *r)
{
	if (rank < WEIR_MAX_POLICIES && verdict < VERDICT_COUNT && p && r)
		police_deny(rank, p, verdict, cause, r);
	return 0;
}

static __always_inline enum cause police_cause(__u32 flags)
{
	return flags & CHARGE_STRANGER ? CAUSE_STRANGER : CAUSE_LIMIT;
}

/* Charges the policies that enforce, all of them or none: 0 if one denied. One policy is the usual number,
 * and a call is not free: the first is inlined. */
static __always_inline int police_enforce(const struct matched *m, const struct packet *p,
					  __u32 used, struct clock *clock, struct ruling *r)
{
	__u64 left = m->apply & enforcing_policies;
	__u32 flags = CHARGE_ADMITTED, i = 0;

	if (left & 1)
		flags = police_charge(0, p, used, clock, &r->departure);
	while (flags & CHARGE_ADMITTED) {
		left >>= 1;
		if (!left || ++i >= WEIR_MAX_POLICIES)
			return 1;
		if (left & 1)
			flags = police_charge_at(i, p, clock, &r->departure);
	}
	if (!i) {
		police_deny(0, p, VERDICT_DROP, police_cause(flags), r);
		return 0;
	}
	police_deny_at(i, p, VERDICT_DROP, police_cause(flags), r);
	police_refund(m->apply, i, p, r->departure.paced);
	return 0;
}

/* Charges the policies in shadow, each by itself: what they deny is counted, and passes. */
static __always_inline void police_shadow(const struct matched *m, const struct packet *p,
					  struct clock *clock, struct ruling *r)
{
	for (__u32 i = enforce_count; i < WEIR_MAX_POLICIES && i < policy_count; i++) {
		struct departure unused = {}; /* nobody waits for a policy in shadow */
		__u32 flags;

		if (m->hide >> i & 1)
			police_deny_at(i, p, VERDICT_SHADOW_DROP, CAUSE_FRAGMENT, r);
		if (!(m->apply >> i & 1))
			continue;
		flags = police_charge_at(i, p, clock, &unused);
		if (!(flags & CHARGE_ADMITTED))
			police_deny_at(i, p, VERDICT_SHADOW_DROP, police_cause(flags), r);
	}
}

/* Drops what a policy that enforces wants dropped because its port is hidden: 1 if there is one. */
CHARGE_GLOBAL int police_hidden(__u64 hide, const struct packet *p, struct ruling *r)
{
	if (!p || !r)
		return 0;
	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < enforce_count; i++) {
		if (!(hide >> i & 1))
			continue;
		police_deny(i, p, VERDICT_DROP, CAUSE_FRAGMENT, r);
		return 1;
	}
	return 0;
}

/* Asks the lists: 1 if one of them decided. Who is allowed is not even asked whether it is banned. */
static __always_inline int police_lists(const struct packet *p, __u32 list, struct clock *clock,
					struct ruling *r)
{
	if (list == LIST_NONE) {
		if (!match_ban(p, clock))
			return 0;
		list = LIST_BAN;
	}
	stats_listed(list, p);
	if (list != LIST_ALLOW) {
		r->verdict = VERDICT_DROP;
		r->cause = list == LIST_BAN ? CAUSE_BAN : CAUSE_DENY;
	}
	return 1;
}

/*
 * The verdict on a packet. Of several policies the one that denies counts the drop; the others
 * count nothing in the end, for them the packet has not been. Those in shadow see what the enforcing ones let
 * through: what they would see if they enforced.
 */
static __always_inline void police(const struct packet *p, __u32 used, struct clock *clock,
				   struct ruling *r)
{
	struct source_rule rule = match_source(p, used);
	struct matched m;

	if (police_lists(p, rule.list, clock, r))
		return;
	m = match_policies(p, used, rule.policies);
	if (used & USE_ENDPOINT && m.hide && police_hidden(m.hide, p, r))
		return;
	if (police_enforce(&m, p, used, clock, r) && used & USE_SHADOW)
		police_shadow(&m, p, clock, r);
}

#endif
