/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What an skb stands for on the wire. The stack hands on several packets of a flow as one: joined by
 * GRO on their way in, not cut yet by GSO on their way out. They are charged as what they are on the
 * wire: so many packets, each with headers of its own.
 */
#ifndef WEIR_SKB_H
#define WEIR_SKB_H

#include <linux/bpf.h>

#include "parse.h"

#define SKB_VLAN_TAG 4
#define SKB_UDP_HEADER 8
#define SKB_TCP_HEADER 20
#define SKB_TCP_LENGTH 12 /* the byte with the header's own length */

/*
 * How long the headers are that every segment repeats. Only TCP and UDP are joined or cut. What is
 * neither, an IPv6 extension header or a tunnel, is taken for UDP; on the way out wire_len makes up
 * for it.
 */
static __always_inline __u32 skb_headers(struct parse_cursor c, const struct packet *packet)
{
	__u32 length = sizeof(struct parse_ipv6);
	const __u8 *ip, *l4;

	/* At most 22; the verifier wants to hear it. */
	c.at = c.start + (packet->ip_offset & 31);
	ip = parse_take(&c, sizeof(struct parse_ipv4));
	if (!ip)
		return 0; /* it was read there before, which the verifier has forgotten */
	if (packet->version == 4)
		length = (*ip & 15) * 4;
	if (packet->protocol != PARSE_PROTO_TCP ||
	    !parse_take(&c, (length - sizeof(struct parse_ipv4)) & 63))
		return packet->ip_offset + length + SKB_UDP_HEADER;
	l4 = parse_take(&c, SKB_TCP_HEADER);
	if (!l4)
		return packet->ip_offset + length + SKB_UDP_HEADER;
	return packet->ip_offset + length + (l4[SKB_TCP_LENGTH] >> 4) * 4;
}

/*
 * Sets how many packets the skb stands for, and how long they are together.
 *
 * gso_segs counts them: on ingress those that GRO joined (or, from another end of a veth, what the
 * sender did not cut), on egress those that GSO will cut. 0 with a gso_size says that a guest or a tun
 * did not count; an skb that is one packet has neither.
 *
 * wire_len is, on egress, the kernel's own sum with the headers of every segment; on ingress it is the
 * length behind the Ethernet header, which is never more than what is computed here.
 *
 * A VLAN tag that the card or the stack took off, or the card is yet to put on, is in no length.
 */
static __always_inline void skb_measure(struct __sk_buff *skb, const struct parse_cursor *cursor,
					struct packet *packet)
{
	__u64 length = skb->len;
	__u32 size = skb->gso_size;
	__u32 segments = 1;

	if (size) {
		__u32 headers = skb_headers(*cursor, packet);

		segments = skb->gso_segs;
		if (!segments && skb->len > headers)
			segments = (skb->len - headers + size - 1) / size;
		if (!segments)
			segments = 1;
		length += (__u64)(segments - 1) * headers;
		if (length < skb->wire_len)
			length = skb->wire_len;
	}
	if (skb->vlan_present)
		length += (__u64)segments * SKB_VLAN_TAG;
	packet->segments = segments;
	packet->length = length;
}

#endif
