// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The entry point at the TC hooks: finds the packet's bounds, and leaves the rest to lib/. */
#include "lib/police.h"
#include "lib/skb.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Verdicts of tcx and of a classifier in direct-action mode, which are the same numbers. */
#define TC_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC: whoever is next on the hook decides */
#define TC_DROP 2    /* TCX_DROP, TC_ACT_SHOT */

#define TC_HEADERS 192 /* bytes: more than the headers that are usually read take */

/*
 * Asks the kernel for the headers in one piece: 1 if it was asked, and the packet is to be parsed again.
 * Without memory for it there is no more to see than before, but where it is must be read anew. A
 * driver may leave all but the Ethernet header in pages; the stack's own packets have their headers in
 * front.
 */
static __always_inline int tc_pull(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;
	__u32 want = skb->len < TC_HEADERS ? skb->len : TC_HEADERS;

	if (linear >= want)
		return 0;
	bpf_skb_pull_data(skb, want);
	return 1;
}

static __always_inline int tc_parse(struct __sk_buff *skb, __u32 used, struct parse_cursor *cursor,
				    struct packet *packet)
{
	struct parse_view view = {
		.outgoing = hook == HOOK_TC_EGRESS,
		.ports = used & USE_ENDPOINT,
	};

	__builtin_memset(packet, 0, sizeof(*packet));
	cursor->start = cursor->at = (const __u8 *)(long)skb->data;
	cursor->end = (const __u8 *)(long)skb->data_end;
	return parse_ethernet(cursor, &view, packet);
}

/*
 * Gives the packet its earliest departure, which the fq queueing discipline keeps (Earliest Departure
 * Time: Fomichev et al., "Replacing HTB with EDT and BPF", Netdev 0x14, 2020). The stack may have given
 * it a later one. In nanoseconds of the monotonic clock, and so not by way of the exact clock's ticks,
 * which wrap every other year; never early, as that would be beyond the limit.
 */
static __always_inline void tc_delay(struct __sk_buff *skb, __u64 delay, struct clock *clock)
{
	__u64 departure;

	clock_exact(clock);
	departure = clock->exact + ((delay + bucket_ticks(1) - 1) >> BUCKET_TICK_SHIFT);
	if (skb->tstamp < departure)
		skb->tstamp = departure;
}

SEC("tc")
int weir_tc(struct __sk_buff *skb)
{
	const __u32 used = uses;
	struct ruling ruling = { .slot = WEIR_NO_POLICY };
	struct parse_cursor cursor;
	struct clock clock = {};
	struct packet packet;
	int reason = tc_parse(skb, used, &cursor, &packet);

	if ((reason == UNPARSED_TRUNCATED || reason == UNPARSED_TRUNCATED_PORTS) && tc_pull(skb))
		reason = tc_parse(skb, used, &cursor, &packet);
	if (reason != PARSE_OK) {
		stats_unparsed(reason);
		if (reason < UNPARSED_LATER_FRAGMENT)
			return TC_NEXT; /* no source, so nobody to charge */
	}
	skb_measure(skb, &cursor, &packet);
	police(&packet, used, &clock, &ruling);
	sample(&packet, &ruling, skb->ifindex, &clock);
	if (ruling.verdict == VERDICT_DROP)
		return TC_DROP;
	if (used & USE_PACE && ruling.departure.delay)
		tc_delay(skb, ruling.departure.delay, &clock);
	return TC_NEXT;
}
