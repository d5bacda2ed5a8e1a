// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Drives a benchmark: gives the test run's one packet another source each time, then jumps into the
 * program that is measured. So the shipped program is measured as it is, without a test entry point;
 * and as the packet generator costs the same before every contender, ratios come out less
 * favourable than they are.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "source.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define IPV4_SOURCE_OFFSET (sizeof(struct ethhdr) + 12)

/* The bits of the source, in host order, that are random; the packet's own are kept in the others. */
const volatile __u32 source_mask = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} contender SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} seed SEC(".maps");

SEC("xdp.frags")
int drive(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__be32 *source = (__be32 *)(data + IPV4_SOURCE_OFFSET);
	__be32 mask = bpf_htonl(source_mask);
	__u32 zero = 0;
	__u64 *state = bpf_map_lookup_elem(&seed, &zero);

	if (!state || (__u8 *)(source + 1) > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	*source = (*source & ~mask) | (next_source(state) & mask);
	bpf_tail_call(ctx, &contender, 0);
	return XDP_ABORTED; /* no contender: the caller sees that nothing was measured */
}

/* The floor: what a packet costs that is dropped unseen. */
SEC("xdp.frags")
int bare(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_DROP;
}
