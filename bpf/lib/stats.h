/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counters: per CPU, so that counting needs no atomic. */
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include "maps.h"
#include "parse.h"

static __always_inline void stats_policy(__u32 slot, enum verdict verdict,
					  const struct packet *p)
{
	struct policy_counters *c = bpf_map_lookup_elem(&policy_stats, &slot);

	if (!c)
		return; /* slot < WEIR_MAX_POLICIES, which the verifier can't know */
	c->packets[verdict] += p->segments;
	c->bytes[verdict] += p->length;
}

static __always_inline void stats_unparsed(__u32 reason)
{
	__u32 zero = 0;
	struct interface_counters *c = bpf_map_lookup_elem(&interface_stats, &zero);

	if (c && reason < UNPARSED_COUNT)
		c->unparsed[reason]++;
}

static __always_inline void stats_table(int pressure, int contended)
{
	__u32 zero = 0;
	struct interface_counters *c = bpf_map_lookup_elem(&interface_stats, &zero);

	if (!c)
		return;
	c->pressure += pressure;
	c->contended += contended;
}

#endif
