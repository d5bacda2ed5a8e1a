// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The XDP entry point: finds the packet's bounds, and leaves the rest to lib/. */
#include "lib/police.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/*
 * A frame may go on in further buffers, and asking the kernel how long it is costs as much as the
 * look-up of a bucket. So it is asked only when the IP header claims more than the first buffer
 * holds; the header alone is not believed, or a forged one would charge a victim for 64 KiB.
 */
static __always_inline __u64 frame_length(struct xdp_md *ctx, const struct packet *packet)
{
	__u64 linear = ctx->data_end - ctx->data;

	if (multi_buffer && (packet->claimed > linear || !packet->claimed))
		return bpf_xdp_get_buff_len(ctx);
	return linear;
}

SEC("xdp.frags")
int weir_xdp(struct xdp_md *ctx)
{
	struct parse_cursor cursor = {
		.start = (const __u8 *)(long)ctx->data,
		.at = (const __u8 *)(long)ctx->data,
		.end = (const __u8 *)(long)ctx->data_end,
	};
	const __u32 used = uses;
	struct parse_view view = { .ports = used & USE_ENDPOINT };
	struct packet packet = { .segments = 1 };
	struct ruling ruling = { .slot = WEIR_NO_POLICY };
	struct clock clock = {};
	int reason = parse_ethernet(&cursor, &view, &packet);

	if (reason != PARSE_OK) {
		stats_unparsed(reason);
		if (reason < UNPARSED_LATER_FRAGMENT)
			return XDP_PASS; /* no source, so nobody to charge */
	}
	packet.length = frame_length(ctx, &packet);
	police(&packet, used, &clock, &ruling);
	sample(&packet, &ruling, ctx->ingress_ifindex, &clock);
	return ruling.verdict == VERDICT_DROP ? XDP_DROP : XDP_PASS;
}
