// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The entry point at the TC hooks: reads the packet's bounds and the clock, and leaves the rest to lib/. */
#include "lib/parse.h"
#include "lib/police.h"
#include "lib/skb.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Verdicts of tcx and of a classifier in direct-action mode, which are the same numbers. */
#define TC_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC: whoever is next on the hook decides */
#define TC_DROP 2    /* TCX_DROP, TC_ACT_SHOT */

#define TC_HEADERS 192 /* bytes: more than the headers that are read ever take */

/*
 * Asks the kernel for the headers in one piece: 1 if there may be more to see than before. A driver
 * may leave all but the Ethernet header in pages; the stack's own packets have their headers in front.
 */
static __always_inline int tc_pull(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;
	__u32 want = skb->len < TC_HEADERS ? skb->len : TC_HEADERS;

	return linear < want && !bpf_skb_pull_data(skb, want);
}

static __always_inline int tc_parse(struct __sk_buff *skb, struct parse_cursor *cursor,
				    struct packet *packet)
{
	cursor->start = cursor->at = (const __u8 *)(long)skb->data;
	cursor->end = (const __u8 *)(long)skb->data_end;
	return parse_ethernet(cursor, packet);
}

SEC("tc")
int weir_tc(struct __sk_buff *skb)
{
	struct parse_cursor cursor;
	struct packet packet = {};
	int reason = tc_parse(skb, &cursor, &packet);

	if (reason == UNPARSED_TRUNCATED && tc_pull(skb))
		reason = tc_parse(skb, &cursor, &packet);
	if (reason != PARSE_OK) {
		stats_unparsed(reason);
		return TC_NEXT; /* no source, so nobody to charge */
	}
	skb_measure(skb, &cursor, &packet);
	if (police(&packet, bucket_ticks(bpf_ktime_get_ns())) == VERDICT_DROP)
		return TC_DROP;
	return TC_NEXT;
}
