/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Announces the sources that use much of a policy that several nodes share. A packet can't wait for what
 * the other nodes know, so that their counts are merged afterwards; but most sources use so little that nobody
 * need be told. If each of n nodes stays below rate * interval / n the sum stays below the limit. User
 * space so chooses a shift with 2^shift <= max(1, rate * interval / n), and a source is announced whenever
 * what its bucket has given passes a multiple of 2^shift: at least once in an interval in which
 * it used its share, and no more often than once in 2^shift admitted tokens.
 *
 * The table counts what is used, and so only a packet that asked it can announce. What a CPU's slot
 * leases is counted there and then, not when it is spent: by burst / 16 at most a source's use is told in an
 * interval before it happens. Not counted are
 *   - packets that cost less than a tick, of which a byte limit above 4 GB/s has some: far below a share;
 *   - what an entry had used before it was given to another source and given back: its bucket was full
 *     then, or its debt was forgotten and counted (pressure). Who pauses until a flood has taken its entry
 *     begins anew; to gain by it, the flood must fill the table within interval / n;
 *   - what a later policy's denial gave back. Such a source may pass one multiple time and again, with no
 *     use to show for it; the budget bounds that.
 *
 * The budget: a policy of which 2^shift is one announces every packet of every source, and a spoofed flood
 * has millions. Reserving room in the ring buffer takes a lock that all CPUs share, and so each makes no
 * more than HOT_PER_PERIOD announcements in a period of about a millisecond; the rest is counted. Of those that
 * cross at the same pace all have the same chance, and who uses more has more.
 */
#ifndef WEIR_HOT_H
#define WEIR_HOT_H

#include "maps.h"
#include "stats.h"
#include "table.h"

#define HOT_PERIOD_SHIFT 20 /* ns: 1.05 ms */
#define HOT_PER_PERIOD 16

/* Lets hot_passed tell what the table admits from what a slot does, which writes nothing here. */
static __always_inline void hot_begin(struct table_charge *t)
{
	t->tokens = 0;
	t->took_extra = 0;
	t->used = 0;
}

/* The bits in which what the bucket has given differs from before: 0 where a slot admitted. */
static __always_inline __u32 hot_passed(const struct table_charge *t)
{
	return t->used ^ (t->used + table_used(t));
}

/* Whether somebody wants to be told of so much. */
static __always_inline int hot_due(__u32 slot, const struct table_charge *t)
{
	const volatile struct hot_page *page = &hot_control;
	__u32 shift = page->shift[slot & (WEIR_MAX_POLICIES - 1)];
	__u64 until = page->until;

	return until && shift < WEIR_HOT_NEVER && hot_passed(t) >> shift &&
	       bpf_ktime_get_coarse_ns() < until;
}

/* Whether this CPU may make one more announcement now. */
static __always_inline int hot_allowed(struct interface_counters *c, __u64 now)
{
	__u64 period = now >> HOT_PERIOD_SHIFT;

	if (c->hot_period != period) {
		c->hot_period = period;
		c->hot_given = 0;
	}
	if (c->hot_given >= HOT_PER_PERIOD)
		return 0;
	c->hot_given++;
	return 1;
}

/* Tells the reconciler. A full ring buffer changes nothing but the count: the next multiple tells again. */
__attribute__((noinline)) int hot_announce(const struct packet *p, __u32 rank,
					   const struct table_charge *t, __u64 hash)
{
	const volatile struct policy *policy = &policies[rank & (WEIR_MAX_POLICIES - 1)];
	struct interface_counters *c;
	struct hot *h;

	/* Kernels before 6.8 walk a global function even if nobody calls it. */
	if (!(uses & USE_RECONCILED) || !p || !t)
		return 0;
	c = stats_interface();
	if (!c || !policy->reconciled || !hot_due(policy->slot, t))
		return 0;
	h = hot_allowed(c, bpf_ktime_get_coarse_ns()) ? bpf_ringbuf_reserve(&hot_sources, sizeof(*h), 0) : 0;
	if (!h) {
		c->hot_lost++;
		return 0;
	}
	__builtin_memset(h, 0, sizeof(*h));
	h->source[0] = p->source[0];
	h->source[1] = p->source[1];
	h->time = bpf_ktime_get_ns();
	h->hash = hash;
	h->used = t->used + table_used(t);
	h->port = p->port;
	h->version = p->version;
	h->protocol = p->protocol;
	h->slot = policy->slot;
	bpf_ringbuf_submit(h, BPF_RB_NO_WAKEUP); /* the listener looks by itself, several times an interval */
	return 0;
}

#endif
