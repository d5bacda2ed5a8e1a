/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds in a frame who sent it, and to which port. Pure C over two pointers: a cursor moves forward,
 * and every header is checked against the end before it is read. What can't be parsed is named, so
 * that the caller may count it. Without an IP header there is no source that could be charged, and
 * the packet passes; without a port the policies that ask for one can't tell.
 */
#ifndef WEIR_PARSE_H
#define WEIR_PARSE_H

#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>

#include "types.h"

#define PARSE_MAX_VLAN_TAGS 2

/* IPv6 extension headers that are walked. Two are usual, and hosts may refuse more than eight
 * (RFC 8504); each one costs the verifier's patience. */
#define PARSE_MAX_EXTENSIONS 6

#define PARSE_OK (-1) /* any other result is an enum unparsed_reason */

/* What is known of the port. */
enum port_state {
	PORT_NONE = 0,   /* the protocol has no ports, or nobody asks */
	PORT_KNOWN = 1,
	PORT_HIDDEN = 2, /* it may have one, which can't be read */
};

/*
 * Whom a packet is charged to. "Source" and "port" are the remote end and the local port: of a
 * packet that goes out, its destination and its source port. Numbers are in host order.
 */
struct packet {
	__u64 source[2]; /* IPv6: high and low half; IPv4: 0 and the address */
	__u64 length;    /* of the frame without its checksum, in bytes */
	__u32 claimed;   /* where the IP header says that the frame ends; 0: it does not say */
	__u32 segments;  /* packets on the wire that this one stands for; the caller's to set */
	__u16 port;
	__u8 port_state; /* enum port_state */
	__u8 protocol;   /* IANA's number, behind the extension headers */
	__u16 ip_offset; /* of the IP header in the frame */
	__u8 version;    /* 4 or 6 */
	__u8 _pad;
};

/* How to look at a packet. */
struct parse_view {
	__u32 outgoing; /* the remote end is the destination */
	__u32 ports;    /* somebody asks for protocol and port */
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
struct parse_ethernet_header { /* <linux/if_ether.h> has it packed, to be read byte by byte */
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
	__be16 proto;
};

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

#define PARSE_IPV4_OFFSET 0x1fff
#define PARSE_IPV6_OFFSET 0xfff8

struct parse_extension {
	__u8 next_header;
	__u8 length; /* in units of eight bytes beyond the first; of four beyond two in an AH */
};

struct parse_fragment {
	__u8 next_header;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

struct parse_ports {
	__be16 source;
	__be16 destination;
};

#define PARSE_PROTO_HOP_BY_HOP 0
#define PARSE_PROTO_TCP 6
#define PARSE_PROTO_UDP 17
#define PARSE_PROTO_DCCP 33
#define PARSE_PROTO_ROUTING 43
#define PARSE_PROTO_FRAGMENT 44
#define PARSE_PROTO_AH 51
#define PARSE_PROTO_ICMPV6 58
#define PARSE_PROTO_DESTINATION 60
#define PARSE_PROTO_SCTP 132
#define PARSE_PROTO_MOBILITY 135
#define PARSE_PROTO_UDPLITE 136
#define PARSE_PROTO_HIP 139
#define PARSE_PROTO_SHIM6 140
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

static __always_inline int parse_has_ports(__u8 protocol)
{
	return protocol == PARSE_PROTO_TCP || protocol == PARSE_PROTO_UDP ||
	       protocol == PARSE_PROTO_SCTP || protocol == PARSE_PROTO_DCCP ||
	       protocol == PARSE_PROTO_UDPLITE;
}

/* The port behind the IP header, whatever the protocol: all that have ports begin with them. */
static __always_inline int parse_port(struct parse_cursor *c, const struct parse_view *view,
				      struct packet *p)
{
	const struct parse_ports *ports;

	if (!parse_has_ports(p->protocol))
		return PARSE_OK;
	ports = parse_take(c, sizeof(*ports));
	if (!ports) {
		p->port_state = PORT_HIDDEN;
		return UNPARSED_TRUNCATED_PORTS;
	}
	p->port_state = PORT_KNOWN;
	p->port = bpf_ntohs(view->outgoing ? ports->source : ports->destination);
	return PARSE_OK;
}

static __always_inline int parse_behind_ipv4(struct parse_cursor *c, const struct parse_view *view,
					     const struct parse_ipv4 *ip, struct packet *p)
{
	__u64 options = (ip->version_ihl & 15) * 4 - sizeof(*ip);

	if (ip->fragment & bpf_htons(PARSE_IPV4_OFFSET)) {
		p->port_state = PORT_HIDDEN;
		return UNPARSED_LATER_FRAGMENT;
	}
	if (options && !parse_take(c, options & 63)) {
		p->port_state = PORT_HIDDEN;
		return UNPARSED_TRUNCATED_PORTS;
	}
	return parse_port(c, view, p);
}

static __always_inline int parse_ipv4(struct parse_cursor *c, const struct parse_view *view,
				      struct packet *p)
{
	const struct parse_ipv4 *ip = parse_take(c, sizeof(*ip));

	if (!ip)
		return UNPARSED_TRUNCATED;
	if (ip->version_ihl >> 4 != 4 || (ip->version_ihl & 15) < 5)
		return UNPARSED_BAD_HEADER;
	p->version = 4;
	p->ip_offset = (const __u8 *)ip - c->start;
	p->claimed = parse_claimed_end(c, ip, bpf_ntohs(ip->total_length));
	p->source[0] = 0;
	p->source[1] = bpf_ntohl(view->outgoing ? ip->destination : ip->source);
	p->protocol = ip->protocol;
	return view->ports ? parse_behind_ipv4(c, view, ip, p) : PARSE_OK;
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

static __always_inline int parse_is_extension(__u8 protocol)
{
	return protocol == PARSE_PROTO_HOP_BY_HOP || protocol == PARSE_PROTO_ROUTING ||
	       protocol == PARSE_PROTO_FRAGMENT || protocol == PARSE_PROTO_AH ||
	       protocol == PARSE_PROTO_DESTINATION || protocol == PARSE_PROTO_MOBILITY ||
	       protocol == PARSE_PROTO_HIP || protocol == PARSE_PROTO_SHIM6;
}

/* Steps over the extension header that p->protocol names, and leaves the next one's number there. */
static __always_inline int parse_extension(struct parse_cursor *c, struct packet *p)
{
	const struct parse_extension *e = (const void *)c->at;
	__u64 length;

	if (p->protocol == PARSE_PROTO_FRAGMENT) {
		const struct parse_fragment *f = parse_take(c, sizeof(*f));

		if (!f)
			return UNPARSED_TRUNCATED_PORTS;
		p->protocol = f->next_header;
		return f->offset & bpf_htons(PARSE_IPV6_OFFSET) ? UNPARSED_LATER_FRAGMENT : PARSE_OK;
	}
	if ((const __u8 *)(e + 1) > c->end)
		return UNPARSED_TRUNCATED_PORTS;
	length = p->protocol == PARSE_PROTO_AH ? (e->length + 2) * 4 : (e->length + 1) * 8;
	p->protocol = e->next_header;
	return parse_take(c, length) ? PARSE_OK : UNPARSED_TRUNCATED_PORTS;
}

static __always_inline int parse_behind_ipv6(struct parse_cursor *c, const struct parse_view *view,
					     struct packet *p)
{
	for (int i = 0; i < PARSE_MAX_EXTENSIONS && parse_is_extension(p->protocol); i++) {
		int reason = parse_extension(c, p);

		if (reason != PARSE_OK) {
			p->port_state = PORT_HIDDEN;
			return reason;
		}
	}
	if (parse_is_extension(p->protocol)) {
		p->port_state = PORT_HIDDEN;
		return UNPARSED_EXTENSION_DEPTH;
	}
	return parse_port(c, view, p);
}

static __always_inline void parse_ipv6_address(const __be32 address[4], struct packet *p)
{
	p->source[0] = (__u64)bpf_ntohl(address[0]) << 32 | bpf_ntohl(address[1]);
	p->source[1] = (__u64)bpf_ntohl(address[2]) << 32 | bpf_ntohl(address[3]);
}

static __always_inline int parse_ipv6(struct parse_cursor *c, const struct parse_view *view,
				      struct packet *p)
{
	const struct parse_ipv6 *ip = parse_take(c, sizeof(*ip));

	if (!ip)
		return UNPARSED_TRUNCATED;
	if (ip->version_class >> 4 != 6)
		return UNPARSED_BAD_HEADER;
	p->version = 6;
	p->ip_offset = (const __u8 *)ip - c->start;
	p->claimed = parse_claimed_end(c, ip, bpf_ntohs(ip->payload_length));
	if (p->claimed)
		p->claimed += sizeof(*ip);
	parse_ipv6_address(view->outgoing ? ip->destination : ip->source, p);
	p->protocol = ip->next_header;
	if (parse_is_neighbor_discovery(c, ip))
		return UNPARSED_NEIGHBOR_DISCOVERY;
	return view->ports ? parse_behind_ipv6(c, view, p) : PARSE_OK;
}

/*
 * Ethernet, up to two VLAN tags, and the IP header behind them; with view->ports the port too. Does
 * not set p->length and p->segments. From UNPARSED_LATER_FRAGMENT on a reason says that the source
 * is known, but the port is not.
 */
static __always_inline int parse_ethernet(struct parse_cursor *c, const struct parse_view *view,
					  struct packet *p)
{
	const struct parse_ethernet_header *eth = parse_take(c, sizeof(*eth));
	__be16 proto;

	if (!eth)
		return UNPARSED_TRUNCATED;
	proto = eth->proto;
	for (int i = 0; i < PARSE_MAX_VLAN_TAGS && parse_is_vlan(proto); i++) {
		const struct parse_vlan *tag = parse_take(c, sizeof(*tag));

		if (!tag)
			return UNPARSED_TRUNCATED;
		proto = tag->inner_proto;
	}
	if (proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(c, view, p);
	if (proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(c, view, p);
	return parse_is_vlan(proto) ? UNPARSED_VLAN_DEPTH : UNPARSED_NOT_IP;
}

#endif
