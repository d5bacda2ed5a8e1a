/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whose bucket a packet draws on. The hash covers what the policy's scope asks for (the source, cut to
 * the policy's prefix; protocol and port; or nothing) under a
 * key that the loader derives for each policy from the table's secret; so the policy and its scope
 * are part of the key without costing the packet path a word.
 *
 * The hash is multiply-shift (Dietzfelbinger et al., 1997), twice, with secret multipliers: whatever
 * addresses somebody chooses without knowing the key, any two of them meet in a set no more often
 * than by chance. Nobody sees a hash value, so there is nothing to learn the key from. SipHash-1-3
 * would resist even that, at several times the cost: docs/adr/0003-keyed-hash.md.
 */
#ifndef WEIR_KEY_H
#define WEIR_KEY_H

#include "parse.h"

/* A permutation of the 64-bit numbers, so that one word alone never collides. */
static __always_inline __u64 key_mix(const volatile struct hash_key *key, __u64 word)
{
	word *= key->multiplier[0];
	word ^= word >> 32;
	word *= key->multiplier[1];
	word ^= word >> 32;
	return word;
}

static __always_inline __u64 key_of_source(const volatile struct policy *policy,
					   const struct packet *p)
{
	const volatile struct hash_key *key = &policy->key;
	__u64 hash;

	if (p->version == 4)
		return key_mix(key, key->offset[0] ^ (p->source[1] & policy->ipv4_mask));
	hash = key_mix(key, key->offset[1] ^ (p->source[0] & policy->ipv6_mask[0]));
	if (!policy->ipv6_mask[1])
		return hash; /* the usual /64 */
	return key_mix(key, hash ^ (p->source[1] & policy->ipv6_mask[1]));
}

static __always_inline __u64 key_hash(const volatile struct policy *policy, const struct packet *p)
{
	const volatile struct hash_key *key = &policy->key;

	if (policy->scope == SCOPE_PER_IP)
		return key_of_source(policy, p);
	if (policy->scope == SCOPE_PER_ENDPOINT)
		return key_mix(key, key->offset[0] ^ ((__u64)p->protocol << 16 | p->port));
	return key_mix(key, key->offset[0]);
}

#endif
