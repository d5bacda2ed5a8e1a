// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What weir is compared with: the token bucket per source as it is usually written in BPF, in an
 * LRU_PERCPU_HASH, refilled from the time since the last packet. It is never shipped; it does what
 * such programs do, with their parsing and one counter, and none of their mistakes that cost time.
 * Being per CPU it admits a multiple of the limit, which is part of what is compared.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

#define IPV4_SOURCE_OFFSET 12
#define IPV4_HEADER 20

const volatile __u64 rate = 1000;  /* tokens per second */
const volatile __u64 burst = 1000; /* tokens */

#define NS_PER_S 1000000000ULL

struct lru_bucket {
	__u64 tokens; /* times 10^9, so that the refill of a nanosecond is not lost */
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__type(key, __u32);
	__type(value, struct lru_bucket);
	__uint(max_entries, 1 << 20);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} verdicts SEC(".maps");

static __always_inline int count(__u32 action)
{
	__u32 index = action == XDP_DROP;
	__u64 *n = bpf_map_lookup_elem(&verdicts, &index);

	if (n)
		(*n)++;
	return action;
}

static __always_inline int take(__u32 source, __u64 now)
{
	struct lru_bucket *b = bpf_map_lookup_elem(&buckets, &source);
	__u64 elapsed;

	if (!b) {
		struct lru_bucket fresh = { (burst - 1) * NS_PER_S, now };

		bpf_map_update_elem(&buckets, &source, &fresh, BPF_ANY);
		return 1;
	}
	elapsed = now - b->last;
	if (elapsed > burst * NS_PER_S / rate)
		b->tokens = burst * NS_PER_S;
	else
		b->tokens += elapsed * rate;
	if (b->tokens > burst * NS_PER_S)
		b->tokens = burst * NS_PER_S;
	b->last = now;
	if (b->tokens < NS_PER_S)
		return 0;
	b->tokens -= NS_PER_S;
	return 1;
}

SEC("xdp.frags")
int lru(struct xdp_md *ctx)
{
	const __u8 *data = (const __u8 *)(long)ctx->data;
	const __u8 *end = (const __u8 *)(long)ctx->data_end;
	const struct ethhdr *eth = (const void *)data;
	const __u8 *ip = data + sizeof(*eth);

	if (ip + IPV4_HEADER > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (take(*(const __u32 *)(ip + IPV4_SOURCE_OFFSET), bpf_ktime_get_ns()))
		return count(XDP_PASS);
	return count(XDP_DROP);
}
