// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Sends live frames: run with BPF_F_TEST_XDP_LIVE_FRAMES, it gives each frame another source and has the
 * kernel transmit it on one end of a veth pair, so that the other end receives it.
 *
 * The kernel fills a page once, and hands it out again when the receiver is done with it. So a frame is
 * either new or one that was sent before, and all that differs between frames has to be written each time.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "source.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define CHECKSUM_OFFSET (sizeof(struct ethhdr) + 10)
#define SOURCE_OFFSET (sizeof(struct ethhdr) + 12)

/* A clock costs as much as all the rest, so it is read once in a batch of the kernel's usual size. */
#define STAMP_EVERY 64

const volatile __u32 source_mask = 0;  /* the bits of the source, in host order, that are random */
const volatile __u32 source_fixed = 0; /* the other bits */
const volatile __u32 header_sum = 0;   /* of the IP header as 16-bit words in memory, without source and checksum */

/* User space sets the seed and the lead-in, and reads the rest. The clock is the monotonic one. */
struct sent {
	__u64 seed;
	__u64 lead_in;  /* so many frames come before those that are measured; a multiple of STAMP_EVERY */
	__u64 frames;
	__u64 begin_ns; /* at frame 0 */
	__u64 first_ns; /* at the first that is measured */
	__u64 last_ns;  /* at the last whose number is a multiple of STAMP_EVERY, */
	__u64 last;     /* which is this */
};

/* Per CPU, as nobody else is to be waited for. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct sent);
	__uint(max_entries, 1);
} sending SEC(".maps");

/* The end of the cable that sends. A map holds the interface itself, and so works from any namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} cable SEC(".maps");

static __always_inline void stamp(struct sent *s)
{
	if (s->frames % STAMP_EVERY == 0) {
		s->last_ns = bpf_ktime_get_ns();
		s->last = s->frames;
		if (!s->frames)
			s->begin_ns = s->last_ns;
		if (s->frames == s->lead_in)
			s->first_ns = s->last_ns;
	}
	s->frames++;
}

/* RFC 1071: the order of the bytes does not matter, as long as all are summed in one. */
static __always_inline __u16 checksum(__be32 source)
{
	__u32 sum = header_sum + (source & 0xffff) + (source >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int send_frame(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__be32 *source = (__be32 *)(data + SOURCE_OFFSET);
	__u32 zero = 0;
	struct sent *s = bpf_map_lookup_elem(&sending, &zero);

	if (!s || (__u8 *)(source + 1) > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	stamp(s);
	*source = bpf_htonl(source_fixed | (next_source(&s->seed) & source_mask));
	*(__u16 *)(data + CHECKSUM_OFFSET) = checksum(*source);
	return bpf_redirect_map(&cable, 0, XDP_ABORTED);
}

/* The floor: what a frame costs that is dropped unseen, in the interface's driver. */
SEC("xdp.frags")
int drop_unseen(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_DROP;
}

/* Lets a frame through to a limiter behind the driver. */
SEC("xdp.frags")
int let_through(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

/* The end of a frame that a limiter in the driver let through: before the stack sees it, on tc's ingress. */
SEC("tcx/ingress")
int end(struct __sk_buff *skb)
{
	(void)skb;
	return 2; /* TC_ACT_SHOT, which the vendored headers don't have */
}
