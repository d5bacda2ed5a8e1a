// SPDX-License-Identifier: Apache-2.0
/* The parser on packets made by hand, each cut at every length. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/parse.h"

#define MAX_PACKET 128
#define NET_IP_ALIGN 2 /* where the kernel puts a frame, so that the IP header behind it is aligned */
#define MACS 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2
#define IPV4 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 203, 0, 113, 1
#define IPV6(next, hops) 0x60, 0, 0, 0, 0, 8, next, hops, \
	0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, \
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
#define UDP 0, 53, 0, 53, 0, 8, 0, 0

struct test {
	const char *name;
	int result;
	__u8 version;
	__u64 high, low;
	__u32 claimed;
	size_t size;   /* of the packet */
	size_t needed; /* bytes without which it is truncated; 0: the result never changes */
	__u8 packet[MAX_PACKET];
};

#define PACKET(...) .packet = { __VA_ARGS__ }, .size = sizeof((__u8[]){ __VA_ARGS__ })
#define V6_HIGH 0x20010db800010002ULL
#define V6_LOW 0x0003000400050006ULL

static const struct test tests[] = {
	{ "IPv4", PARSE_OK, 4, 0, 0xc0000201, 14 + 28, .needed = 34,
	  PACKET(MACS, 8, 0, IPV4, UDP) },
	{ "IPv4 in one VLAN", PARSE_OK, 4, 0, 0xc0000201, 18 + 28, .needed = 38,
	  PACKET(MACS, 0x81, 0, 0, 7, 8, 0, IPV4, UDP) },
	{ "IPv4 in two VLANs (802.1ad)", PARSE_OK, 4, 0, 0xc0000201, 22 + 28, .needed = 42,
	  PACKET(MACS, 0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0, IPV4, UDP) },
	{ "IPv6", PARSE_OK, 6, V6_HIGH, V6_LOW, 14 + 40 + 8, .needed = 54,
	  PACKET(MACS, 0x86, 0xdd, IPV6(17, 64), UDP) },
	{ "IPv6 in two VLANs (802.1Q)", PARSE_OK, 6, V6_HIGH, V6_LOW, 22 + 40 + 8, .needed = 62,
	  PACKET(MACS, 0x81, 0, 0, 7, 0x81, 0, 0, 8, 0x86, 0xdd, IPV6(17, 64), UDP) },
	{ "three VLANs", UNPARSED_VLAN_DEPTH, .needed = 22,
	  PACKET(MACS, 0x81, 0, 0, 7, 0x81, 0, 0, 8, 0x81, 0, 0, 9, 8, 0, IPV4) },
	{ "ARP", UNPARSED_NOT_IP, .needed = 14, PACKET(MACS, 8, 6, 0, 1, 8, 0, 6, 4) },
	{ "ARP in a VLAN", UNPARSED_NOT_IP, .needed = 18, PACKET(MACS, 0x81, 0, 0, 7, 8, 6, 0, 1) },
	{ "LLC length instead of a type", UNPARSED_NOT_IP, .needed = 14, PACKET(MACS, 0, 38, 0x42, 0x42, 3) },
	{ "IPv4 type, version 6", UNPARSED_BAD_HEADER, .needed = 34,
	  PACKET(MACS, 8, 0, 0x65, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8) },
	{ "IPv6 type, version 4", UNPARSED_BAD_HEADER, .needed = 54,
	  PACKET(MACS, 0x86, 0xdd, IPV4, IPV4) },
	{ "router advertisement", UNPARSED_NEIGHBOR_DISCOVERY, 6, V6_HIGH, V6_LOW, .needed = 55,
	  PACKET(MACS, 0x86, 0xdd, IPV6(58, 255), 134, 0, 0, 0) },
	{ "redirect", UNPARSED_NEIGHBOR_DISCOVERY, 6, V6_HIGH, V6_LOW, .needed = 55,
	  PACKET(MACS, 0x86, 0xdd, IPV6(58, 255), 137, 0, 0, 0) },
	{ "neighbour solicitation that was routed", PARSE_OK, 6, V6_HIGH, V6_LOW, 62, .needed = 54,
	  PACKET(MACS, 0x86, 0xdd, IPV6(58, 254), 135, 0, 0, 0, 0, 0, 0, 0) },
	{ "echo request with hop limit 255", PARSE_OK, 6, V6_HIGH, V6_LOW, 62, .needed = 54,
	  PACKET(MACS, 0x86, 0xdd, IPV6(58, 255), 128, 0, 0, 0, 0, 0, 0, 0) },
	{ "BIG TCP: no total length", PARSE_OK, 4, 0, 0xc0000201, 0, .needed = 34,
	  PACKET(MACS, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 203, 0, 113, 1) },
};

/* What is read behind the IP header, if somebody asks for it. */
struct port_test {
	const char *name;
	struct parse_view view;
	int result;
	enum port_state state;
	__u8 protocol;
	__u16 port;
	__u64 low; /* of the source */
	size_t size;
	__u8 packet[MAX_PACKET];
};

#define IN { 0, 1 }
#define OUT { 1, 1 }
#define IPV4_OF(ihl, fragment_high, fragment_low, protocol) 0x40 | (ihl), 0, 0, 28, 0, 0, fragment_high, \
	fragment_low, 64, protocol, 0, 0, 192, 0, 2, 1, 203, 0, 113, 1
#define PORTS 0x30, 0x39, 0, 53, 0, 8, 0, 0 /* from 12345 to 53 */
#define EXTENSION(next) next, 0, 0, 0, 0, 0, 0, 0
#define FRAGMENT(next, high, low) next, 0, high, low, 0, 0, 0, 1
#define V4(...) MACS, 8, 0, __VA_ARGS__
#define V6(...) MACS, 0x86, 0xdd, __VA_ARGS__

static const struct port_test port_tests[] = {
	{ "nobody asks", { 0, 0 }, PARSE_OK, PORT_NONE, 17, 0, 0xc0000201,
	  PACKET(V4(IPV4_OF(5, 0, 0, 17), PORTS)) },
	{ "UDP comes in", IN, PARSE_OK, PORT_KNOWN, 17, 53, 0xc0000201,
	  PACKET(V4(IPV4_OF(5, 0, 0, 17), PORTS)) },
	{ "UDP goes out", OUT, PARSE_OK, PORT_KNOWN, 17, 12345, 0xcb007101,
	  PACKET(V4(IPV4_OF(5, 0, 0, 17), PORTS)) },
	{ "TCP", IN, PARSE_OK, PORT_KNOWN, 6, 53, 0xc0000201, PACKET(V4(IPV4_OF(5, 0, 0, 6), PORTS)) },
	{ "ICMP", IN, PARSE_OK, PORT_NONE, 1, 0, 0xc0000201, PACKET(V4(IPV4_OF(5, 0, 0, 1), PORTS)) },
	{ "IPv4 options", IN, PARSE_OK, PORT_KNOWN, 17, 53, 0xc0000201,
	  PACKET(V4(IPV4_OF(7, 0, 0, 17), 1, 1, 1, 1, 1, 1, 1, 0, PORTS)) },
	{ "the most options", IN, PARSE_OK, PORT_KNOWN, 17, 53, 0xc0000201,
	  PACKET(V4(IPV4_OF(15, 0, 0, 17), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, PORTS)) },
	{ "a header shorter than a header", IN, UNPARSED_BAD_HEADER, PORT_NONE, 0, 0, 0,
	  PACKET(V4(IPV4_OF(4, 0, 0, 17), PORTS)) },
	{ "may not be fragmented", IN, PARSE_OK, PORT_KNOWN, 17, 53, 0xc0000201,
	  PACKET(V4(IPV4_OF(5, 0x40, 0, 17), PORTS)) },
	{ "first fragment", IN, PARSE_OK, PORT_KNOWN, 17, 53, 0xc0000201,
	  PACKET(V4(IPV4_OF(5, 0x20, 0, 17), PORTS)) },
	{ "later fragment", IN, UNPARSED_LATER_FRAGMENT, PORT_HIDDEN, 17, 0, 0xc0000201,
	  PACKET(V4(IPV4_OF(5, 0x20, 1, 17), PORTS)) },
	{ "last fragment", IN, UNPARSED_LATER_FRAGMENT, PORT_HIDDEN, 17, 0, 0xc0000201,
	  PACKET(V4(IPV4_OF(5, 0x1f, 0xff, 17), PORTS)) },
	{ "two VLAN tags", IN, PARSE_OK, PORT_KNOWN, 17, 53, 0xc0000201,
	  PACKET(MACS, 0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0, IPV4_OF(5, 0, 0, 17), PORTS) },
	{ "IPv6", IN, PARSE_OK, PORT_KNOWN, 17, 53, V6_LOW, PACKET(V6(IPV6(17, 64), PORTS)) },
	{ "IPv6 goes out", OUT, PARSE_OK, PORT_KNOWN, 17, 12345, 1, PACKET(V6(IPV6(17, 64), PORTS)) },
	{ "ICMPv6", IN, PARSE_OK, PORT_NONE, 58, 0, V6_LOW, PACKET(V6(IPV6(58, 64), 128, 0, 0, 0)) },
	{ "no next header", IN, PARSE_OK, PORT_NONE, 59, 0, V6_LOW, PACKET(V6(IPV6(59, 64), PORTS)) },
	{ "hop by hop", IN, PARSE_OK, PORT_KNOWN, 6, 53, V6_LOW,
	  PACKET(V6(IPV6(0, 64), EXTENSION(6), PORTS)) },
	{ "a long one", IN, PARSE_OK, PORT_KNOWN, 6, 53, V6_LOW,
	  PACKET(V6(IPV6(60, 64), 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, PORTS)) },
	{ "authentication header", IN, PARSE_OK, PORT_KNOWN, 17, 53, V6_LOW,
	  PACKET(V6(IPV6(51, 64), 17, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		    PORTS)) },
	{ "as many as are walked", IN, PARSE_OK, PORT_KNOWN, 17, 53, V6_LOW,
	  PACKET(V6(IPV6(0, 64), EXTENSION(60), EXTENSION(43), EXTENSION(60), EXTENSION(60), EXTENSION(60),
		    EXTENSION(17), PORTS)) },
	{ "one more", IN, UNPARSED_EXTENSION_DEPTH, PORT_HIDDEN, 60, 0, V6_LOW,
	  PACKET(V6(IPV6(0, 64), EXTENSION(60), EXTENSION(43), EXTENSION(60), EXTENSION(60), EXTENSION(60),
		    EXTENSION(60), EXTENSION(17), PORTS)) },
	{ "an extension longer than the packet", IN, UNPARSED_TRUNCATED_PORTS, PORT_HIDDEN, 17, 0, V6_LOW,
	  PACKET(V6(IPV6(60, 64), 17, 255, 0, 0, 0, 0, 0, 0, PORTS)) },
	{ "IPv6, an atomic fragment", IN, PARSE_OK, PORT_KNOWN, 17, 53, V6_LOW,
	  PACKET(V6(IPV6(44, 64), FRAGMENT(17, 0, 0), PORTS)) },
	{ "IPv6, first fragment", IN, PARSE_OK, PORT_KNOWN, 17, 53, V6_LOW,
	  PACKET(V6(IPV6(44, 64), FRAGMENT(17, 0, 1), PORTS)) },
	{ "IPv6, later fragment", IN, UNPARSED_LATER_FRAGMENT, PORT_HIDDEN, 17, 0, V6_LOW,
	  PACKET(V6(IPV6(44, 64), FRAGMENT(17, 0, 8), PORTS)) },
	{ "IPv6, fragment behind others", IN, UNPARSED_LATER_FRAGMENT, PORT_HIDDEN, 17, 0, V6_LOW,
	  PACKET(V6(IPV6(0, 64), EXTENSION(43), EXTENSION(44), FRAGMENT(17, 5, 8), PORTS)) },
};

static int parse(const __u8 *packet, size_t size, const struct parse_view *view, struct packet *p)
{
	/* A block of the exact size, so that the sanitiser sees a read beyond it. */
	__u8 *block = malloc(NET_IP_ALIGN + size);
	__u8 *copy = block + NET_IP_ALIGN;
	struct parse_cursor c = { .start = copy, .at = copy, .end = copy + size };
	int result;

	memcpy(copy, packet, size);
	memset(p, 0, sizeof(*p));
	result = parse_ethernet(&c, view, p);
	free(block);
	return result;
}

static int check(const struct test *t)
{
	struct packet p;
	struct parse_view view = { 0 };
	int result = parse(t->packet, t->size, &view, &p);

	if (result != t->result || p.version != t->version || p.source[0] != t->high ||
	    p.source[1] != t->low || (result == PARSE_OK && p.claimed != t->claimed)) {
		fprintf(stderr, "%s: result %d, version %d, source %llx:%llx, claimed %u\n", t->name,
			result, p.version, (unsigned long long)p.source[0],
			(unsigned long long)p.source[1], p.claimed);
		return 0;
	}
	for (size_t size = 0; size < t->size; size++) {
		int want = size < t->needed ? UNPARSED_TRUNCATED : t->result;

		/* Without its type byte it is not known for neighbour discovery, and charged. */
		if (t->result == UNPARSED_NEIGHBOR_DISCOVERY && size == t->needed - 1)
			want = PARSE_OK;
		if (parse(t->packet, size, &view, &p) == want)
			continue;
		fprintf(stderr, "%s, cut to %zu bytes: result %d, want %d\n", t->name, size,
			parse(t->packet, size, &view, &p), want);
		return 0;
	}
	return 1;
}

static int check_port(const struct port_test *t)
{
	struct packet p;
	int result = parse(t->packet, t->size, &t->view, &p);

	if (result != t->result || p.port_state != t->state || p.port != t->port ||
	    p.protocol != t->protocol || p.source[1] != t->low) {
		fprintf(stderr, "%s: result %d, state %d, protocol %d, port %d, source %llx\n", t->name,
			result, p.port_state, p.protocol, p.port, (unsigned long long)p.source[1]);
		return 0;
	}
	for (size_t size = 0; size < t->size; size++) {
		result = parse(t->packet, size, &t->view, &p);
		/* Cut, it can only lose its port, then its source. */
		if (result == UNPARSED_TRUNCATED || result == UNPARSED_TRUNCATED_PORTS ||
		    result == t->result)
			continue;
		fprintf(stderr, "%s, cut to %zu bytes: result %d\n", t->name, size, result);
		return 0;
	}
	return 1;
}

int main(void)
{
	int passed = 0, failed = 0;

	for (size_t i = 0; i < sizeof(port_tests) / sizeof(port_tests[0]); i++) {
		if (check_port(&port_tests[i]))
			passed++;
		else
			failed++;
	}

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (check(&tests[i]))
			passed++;
		else
			failed++;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed;
}
