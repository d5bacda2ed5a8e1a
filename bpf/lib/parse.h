/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the source address in a frame. Pure C over two pointers: a cursor moves forward, and every
 * header is checked against the end before it is read. What can't be parsed is named, so that the
 * caller may count it; such packets pass, as they have no source that could be charged.
 */
#ifndef WEIR_PARSE_H
#define WEIR_PARSE_H

#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>

#include "types.h"

#define PARSE_MAX_VLAN_TAGS 2

#define PARSE_OK (-1) /* any other result is an enum unparsed_reason */

/* The source that a packet is charged to. Addresses are numbers in host order. */
struct packet {
	__u64 source[2]; /* IPv6: high and low half; IPv4: 0 and the address */
	__u64 length;    /* of the frame without its checksum, in bytes */
	__u32 claimed;   /* where the IP header says that the frame ends; 0: it does not say */
	__u32 segments;  /* packets on the wire that this one stands for; the caller's to set */
	__u8 version;    /* 4 or 6 */
	__u8 _pad[7];
};

struct parse_cursor {
	const __u8 *start;
	const __u8 *at;
	const __u8 *end;
};

/*
 * The protocol headers, as far as they are read. Bit fields are left out as bytes: their order is
 * the compiler's choice.
 */
struct parse_vlan {
	__be16 tci;
	__be16 inner_proto;
};

struct parse_ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct parse_ipv6 {
	__u8 version_class;
	__u8 class_flow[3];
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__be32 source[4];
	__be32 destination[4];
};

#define PARSE_PROTO_ICMPV6 58
#define PARSE_ICMPV6_ROUTER_SOLICITATION 133 /* the first of five; a redirect, 137, is the last */
#define PARSE_ICMPV6_REDIRECT 137

/* The next size bytes, or 0 if the packet ends before. */
static __always_inline const void *parse_take(struct parse_cursor *c, __u64 size)
{
	const __u8 *header = c->at;

	if (header + size > c->end)
		return 0;
	c->at = header + size;
	return header;
}

/* Where a packet of size bytes ends that begins with the header just taken. A size of 0 is what the
 * kernel writes when it hands on more than 64 KiB at once (BIG TCP). */
static __always_inline __u32 parse_claimed_end(const struct parse_cursor *c, const void *header,
					       __u32 size)
{
	return size ? (const __u8 *)header - c->start + size : 0;
}

static __always_inline int parse_is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline int parse_ipv4(struct parse_cursor *c, struct packet *p)
{
	const struct parse_ipv4 *ip = parse_take(c, sizeof(*ip));

	if (!ip)
		return UNPARSED_TRUNCATED;
	if (ip->version_ihl >> 4 != 4)
		return UNPARSED_BAD_HEADER;
	p->version = 4;
	p->claimed = parse_claimed_end(c, ip, bpf_ntohs(ip->total_length));
	p->source[0] = 0;
	p->source[1] = bpf_ntohl(ip->source);
	return PARSE_OK;
}

/*
 * Neighbour discovery passes as ARP does. It comes from the very neighbours, a router included, that
 * bring everybody's packets, and a hop limit of 255 proves that no router forwarded it.
 */
static __always_inline int parse_is_neighbor_discovery(struct parse_cursor *c,
						       const struct parse_ipv6 *ip)
{
	const __u8 *type;

	if (ip->next_header != PARSE_PROTO_ICMPV6 || ip->hop_limit != 255)
		return 0;
	type = parse_take(c, 1);
	return type && *type >= PARSE_ICMPV6_ROUTER_SOLICITATION && *type <= PARSE_ICMPV6_REDIRECT;
}

static __always_inline int parse_ipv6(struct parse_cursor *c, struct packet *p)
{
	const struct parse_ipv6 *ip = parse_take(c, sizeof(*ip));

	if (!ip)
		return UNPARSED_TRUNCATED;
	if (ip->version_class >> 4 != 6)
		return UNPARSED_BAD_HEADER;
	p->version = 6;
	p->claimed = parse_claimed_end(c, ip, bpf_ntohs(ip->payload_length));
	if (p->claimed)
		p->claimed += sizeof(*ip);
	p->source[0] = (__u64)bpf_ntohl(ip->source[0]) << 32 | bpf_ntohl(ip->source[1]);
	p->source[1] = (__u64)bpf_ntohl(ip->source[2]) << 32 | bpf_ntohl(ip->source[3]);
	if (parse_is_neighbor_discovery(c, ip))
		return UNPARSED_NEIGHBOR_DISCOVERY;
	return PARSE_OK;
}

/* Ethernet, up to two VLAN tags, and the IP header behind them. Does not set
 * p->length and p->segments. */
static __always_inline int parse_ethernet(struct parse_cursor *c, struct packet *p)
{
	const struct ethhdr *eth = parse_take(c, sizeof(*eth));
	__be16 proto;

	if (!eth)
		return UNPARSED_TRUNCATED;
	proto = eth->h_proto;
	for (int i = 0; i < PARSE_MAX_VLAN_TAGS && parse_is_vlan(proto); i++) {
		const struct parse_vlan *tag = parse_take(c, sizeof(*tag));

		if (!tag)
			return UNPARSED_TRUNCATED;
		proto = tag->inner_proto;
	}
	if (proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(c, p);
	if (proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(c, p);
	return parse_is_vlan(proto) ? UNPARSED_VLAN_DEPTH : UNPARSED_NOT_IP;
}

#endif
