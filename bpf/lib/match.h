/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which policies apply to a packet, in time that does not depend on their number (bit vectors:
 * Lakshman and Stiliadis, 1998). Each dimension gives a word with a bit for every policy that it
 * satisfies; those in all of the words apply. Interface and direction are no dimension here: a
 * program has only the policies of its own.
 */
#ifndef WEIR_MATCH_H
#define WEIR_MATCH_H

#include <bpf/bpf_endian.h>

#include "clock.h"
#include "maps.h"
#include "parse.h"

/* What match_policies found: disjoint sets of policies, by rank. */
struct matched {
	__u64 apply; /* to be charged */
	__u64 hide;  /* that drop the packet because its port can't be read */
};

static __always_inline struct lpm_ipv4 match_ipv4(const struct packet *p)
{
	struct lpm_ipv4 key = { .prefix_length = 32 };

	*(__be32 *)key.address = bpf_htonl((__u32)p->source[1]);
	return key;
}

static __always_inline struct lpm_ipv6 match_ipv6(const struct packet *p)
{
	struct lpm_ipv6 key = { .prefix_length = 128 };
	__be32 *address = (__be32 *)key.address;

	address[0] = bpf_htonl(p->source[0] >> 32);
	address[1] = bpf_htonl((__u32)p->source[0]);
	address[2] = bpf_htonl(p->source[1] >> 32);
	address[3] = bpf_htonl((__u32)p->source[1]);
	return key;
}

/* Whether a source is in one of few prefixes: no call, and no pointer to follow, as a trie has. */
static __always_inline void match_few(const struct packet *p, struct source_rule *sum)
{
	__u32 from = p->version == 4 ? 0 : few_sources4;
	__u32 to = p->version == 4 ? few_sources4 : few_sources6;

	for (__u32 i = 0; i < WEIR_FEW_SOURCES && i < few_sources6; i++) {
		const volatile struct few_source *few = &few_sources[i];

		if (i < from || i >= to || (p->source[0] & few->mask[0]) != few->prefix[0] ||
		    (p->source[1] & few->mask[1]) != few->prefix[1])
			continue;
		sum->policies |= few->rule.policies;
		if (sum->list != LIST_ALLOW && few->rule.list)
			sum->list = few->rule.list;
	}
}

/* What the configuration says of the source: the policies that take it, and allow or deny. */
static __always_inline struct source_rule match_source(const struct packet *p, __u32 used)
{
	struct source_rule rule = { sourceless_policies, LIST_NONE, 0 }, *found = 0;

	if (used & USE_FEW_SOURCES)
		match_few(p, &rule);
	if (p->version == 4 && used & USE_TRIE_IPV4) {
		struct lpm_ipv4 key = match_ipv4(p);

		found = bpf_map_lookup_elem(&sources4, &key);
	} else if (p->version == 6 && used & USE_TRIE_IPV6) {
		struct lpm_ipv6 key = match_ipv6(p);

		found = bpf_map_lookup_elem(&sources6, &key);
	}
	if (found)
		rule = *found;
	return rule;
}

/* Whether the source is banned. While nobody is, that costs one load. */
static __always_inline int match_ban(const struct packet *p, struct clock *clock)
{
	const volatile struct control_page *c = &control;
	struct ban *ban = 0;

	if (!*(const volatile __u64 *)c->bans)
		return 0; /* neither family has any */
	if (p->version == 4 && c->bans[0]) {
		struct lpm_ipv4 key = match_ipv4(p);

		ban = bpf_map_lookup_elem(&bans4, &key);
	} else if (p->version == 6 && c->bans[1]) {
		struct lpm_ipv6 key = match_ipv6(p);

		ban = bpf_map_lookup_elem(&bans6, &key);
	}
	return ban && clock_coarse_ns(clock) < ban->until;
}

static __always_inline __u64 match_port(const struct packet *p)
{
	__u32 port = p->port;
	__u64 *satisfied = bpf_map_lookup_elem(&ports, &port);

	return satisfied ? *satisfied : portless_policies; /* 65 536 entries: there always is one */
}

/* What the policies in all replace together. A function of its own, for the verifier to walk once. */
__attribute__((noinline)) __u64 match_replaced_by(__u64 all)
{
	__u64 out = 0;

	for (__u32 i = 0; i < WEIR_MAX_POLICIES && i < policy_count; i++)
		if (all >> i & 1)
			out |= policies[i].replaces;
	return out;
}

/* Takes out what a narrower policy replaces. All that match have their say, replaced or not. */
static __always_inline void match_replaced(struct matched *m)
{
	__u64 out = match_replaced_by(m->apply | m->hide);

	m->apply &= ~out;
	m->hide &= ~out;
}

/* source_policies is what match_source said. */
static __always_inline struct matched match_policies(const struct packet *p, __u32 used,
						     __u64 source_policies)
{
	struct matched m = { .apply = source_policies };

	if (used & USE_PROTOCOL)
		m.apply &= protocol_policies[p->protocol];
	if (used & USE_ENDPOINT && p->port_state == PORT_HIDDEN) {
		m.hide = m.apply & hidden_drop;
		m.apply &= portless_policies & ~endpoint_policies;
	} else if (used & USE_PORTS) {
		m.apply &= p->port_state == PORT_KNOWN ? match_port(p) : portless_policies;
	}
	if (used & USE_REPLACES)
		match_replaced(&m);
	return m;
}

#endif
