// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Replays one vector in the kernel. The clock is in the vector, which is why the shipped program has
 * no part in this: it reads the clock itself. What is compared is the same headers, compiled for BPF
 * by the same compiler and run by the kernel's JIT.
 */
#include "../lib/key.h"
#include "../lib/slot.h"
#include "../lib/table.h"

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum vector_verb {
	VECTOR_TAKE = 0,
	VECTOR_HASH = 1, /* of any scope */
	VECTOR_SET = 2,
	VECTOR_REFUND = 3,
	VECTOR_WAIT = 4,
	VECTOR_PACE = 5,
	VECTOR_SLOT = 6,
	VECTOR_SPEND = 7,
	VECTOR_LEASE = 8,
	VECTOR_WORTH = 9,
	VECTOR_DENY = 10,
	VECTOR_DENIES = 11,
};

struct vector {
	struct bucket_set set;
	struct bucket_limit limit;
	struct policy policy;
	struct slot slot;
	__u64 source[2];
	__u64 tat, now, cost;
	__u64 wait;   /* pace: how long is too long, then the wait */
	__u64 result; /* admitted, TAKE_ flags, a hash, or a number of tokens or ticks */
	__u32 fingerprint;
	__u32 verb;
	__u32 evict_debt;
	__u32 version;
	__u32 protocol;
	__u32 port;
	__u32 lease;
	__u32 jiffy;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct vector);
	__uint(max_entries, 1);
} vectors SEC(".maps");

static __always_inline void replay_slot(struct vector *v)
{
	switch (v->verb) {
	case VECTOR_SLOT:
		v->result = slot_index(v->slot.hash);
		break;
	case VECTOR_SPEND:
		v->result = slot_spend(&v->slot, v->cost);
		break;
	case VECTOR_LEASE:
		v->result = slot_lease(v->lease, v->cost) * v->cost;
		break;
	case VECTOR_WORTH:
		v->result = slot_worth(&v->slot);
		break;
	case VECTOR_DENY:
		slot_deny(&v->slot, v->now, v->wait, v->jiffy, v->cost);
		break;
	case VECTOR_DENIES:
		v->result = slot_denies(&v->slot, v->now, v->cost);
		break;
	}
}

static __always_inline void replay(struct vector *v)
{
	struct packet packet = {
		.version = v->version,
		.source = { v->source[0], v->source[1] },
		.protocol = v->protocol,
		.port = v->port,
	};
	struct table_charge c = {
		.cost = bucket_cost(&v->limit, v->cost),
		.tokens = v->cost,
		.evict_debt = v->evict_debt,
	};

	switch (v->verb) {
	case VECTOR_TAKE:
		v->result = bucket_take(&v->limit, v->tat, v->now, v->cost, &v->tat);
		break;
	case VECTOR_HASH:
		v->result = key_hash(&v->policy, &packet);
		break;
	case VECTOR_SET:
		v->result = v->cost > v->limit.burst ?
				    0 : table_take(&v->set, v->fingerprint, &v->limit, v->now, &c);
		break;
	case VECTOR_REFUND:
		table_refund(&v->set, v->fingerprint, c.cost, c.tokens);
		break;
	case VECTOR_WAIT:
		v->result = bucket_wait(&v->limit, v->tat, v->now, v->cost);
		break;
	case VECTOR_PACE:
		v->result = bucket_pace(&v->limit, v->tat, v->now, v->cost, v->wait, &v->tat, &v->wait);
		break;
	default:
		replay_slot(v);
	}
}

SEC("xdp")
int replay_vector(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct vector *v = bpf_map_lookup_elem(&vectors, &zero);

	(void)ctx;
	if (!v)
		return XDP_ABORTED;
	replay(v);
	return XDP_PASS;
}
