// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What weir is compared with: a token bucket per source, in an LRU hash, refilled from the time since
 * the source's last packet. That is how it is usually written in BPF: Cilium's bpf/lib/ratelimit.h keeps
 * {last_topup, tokens} in an LRU_HASH, gamemann/XDP-Firewall a window's counts by source address in
 * another. This one takes the per-CPU kind, which needs neither a lock nor an atomic, and so is the
 * fastest; in return it admits a multiple of the limit to whoever is spread over several CPUs.
 *
 * It does weir's job for one policy, with weir's own parser and counters, so that only the store of the
 * buckets and the refill differ; and it is given every advantage that such programs have:
 *   - credit is kept in nanoseconds, so that the refill is an addition and takes no division;
 *   - the prefix lengths, /32 and /64, are fixed, and both families share one key of two words;
 *   - a bucket is changed in place; the map is written only for a source that it does not have.
 *
 * weir bench --compare reads the object from a file. It is no part of weir.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "../lib/parse.h"
#include "../lib/types.h"

char _license[] SEC("license") = "Dual BSD/GPL";

const volatile __u64 token_time = 0; /* ns that one token takes to come back */
const volatile __u64 depth = 0;      /* ns that an empty bucket takes to fill */
const volatile __u32 multi_buffer = 0; /* as in maps.h */

struct lru_key {
	__u64 source[2]; /* IPv4 as ::ffff:a.b.c.d (RFC 4291); no padding */
};
_Static_assert(sizeof(struct lru_key) == 16, "a hash covers padding as well");

struct lru_bucket {
	__u64 credit; /* ns: what a token costs, for each token there is */
	__u64 last;   /* packet, by the monotonic clock in ns */
};

/* The caller sets max_entries to as many sources as weir's table has. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__type(key, struct lru_key);
	__type(value, struct lru_bucket);
	__uint(max_entries, 1);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct policy_counters);
	__uint(max_entries, 1);
} policy_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct interface_counters);
	__uint(max_entries, 1);
} interface_stats SEC(".maps");

static __always_inline void count(enum verdict verdict, __u64 bytes)
{
	__u32 zero = 0;
	struct policy_counters *c = bpf_map_lookup_elem(&policy_stats, &zero);

	if (!c)
		return;
	c->packets[verdict]++;
	c->bytes[verdict] += bytes;
}

static __always_inline void count_unparsed(__u32 reason)
{
	__u32 zero = 0;
	struct interface_counters *c = bpf_map_lookup_elem(&interface_stats, &zero);

	if (c && reason < UNPARSED_COUNT)
		c->unparsed[reason]++;
}

static __always_inline struct lru_key key_of(const struct packet *p)
{
	struct lru_key key = { { 0, 0xffffULL << 32 | p->source[1] } };

	if (p->version == 6) {
		key.source[0] = p->source[0];
		key.source[1] = 0; /* a /64 */
	}
	return key;
}

/* A source that the map has forgotten starts full, and so does one that it never knew. */
static __always_inline int take(const struct lru_key *key, __u64 now)
{
	struct lru_bucket *b = bpf_map_lookup_elem(&buckets, key);
	__u64 credit;

	if (!b) {
		struct lru_bucket fresh = { depth - token_time, now };

		bpf_map_update_elem(&buckets, key, &fresh, BPF_ANY);
		return 1;
	}
	credit = b->credit + (now - b->last); /* 584 years until it wraps */
	if (credit > depth)
		credit = depth;
	b->last = now;
	if (credit < token_time) {
		b->credit = credit;
		return 0;
	}
	b->credit = credit - token_time;
	return 1;
}

/* As in xdp.bpf.c. */
static __always_inline __u64 frame_length(struct xdp_md *ctx, const struct packet *packet)
{
	__u64 linear = ctx->data_end - ctx->data;

	if (multi_buffer && (packet->claimed > linear || !packet->claimed))
		return bpf_xdp_get_buff_len(ctx);
	return linear;
}

SEC("xdp.frags")
int lru(struct xdp_md *ctx)
{
	struct parse_cursor cursor = {
		.start = (const __u8 *)(long)ctx->data,
		.at = (const __u8 *)(long)ctx->data,
		.end = (const __u8 *)(long)ctx->data_end,
	};
	struct parse_view view = {};
	struct packet packet = {};
	int reason = parse_ethernet(&cursor, &view, &packet);
	struct lru_key key;

	if (reason != PARSE_OK) {
		count_unparsed(reason);
		return XDP_PASS;
	}
	packet.length = frame_length(ctx, &packet);
	key = key_of(&packet);
	if (!take(&key, bpf_ktime_get_ns())) {
		count(VERDICT_DROP, packet.length);
		return XDP_DROP;
	}
	count(VERDICT_PASS, packet.length);
	return XDP_PASS;
}
