// SPDX-License-Identifier: Apache-2.0
/*
 * The packet parser under libFuzzer. AddressSanitizer sees every read beyond the packet, as the
 * input is a heap block of its exact size; what is checked here is that the result makes sense.
 */
#include <stdlib.h>
#include <string.h>

#include "../lib/parse.h"

/* Where the kernel puts a frame, so that the IP header behind it is aligned. */
#define NET_IP_ALIGN 2

#define REQUIRE(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size)
{
	__u8 *block = malloc(NET_IP_ALIGN + size);
	__u8 *start = block + NET_IP_ALIGN;
	struct parse_cursor c = { .start = start, .at = start, .end = start + size };
	/* The last byte, which most packets can spare, says how to look. */
	struct parse_view view = {
		.outgoing = size && data[size - 1] & 1,
		.ports = size && data[size - 1] & 2,
	};
	struct packet p = { 0 };
	int result;

	if (size)
		memcpy(start, data, size);
	result = parse_ethernet(&c, &view, &p);
	free(block);

	REQUIRE(result >= PARSE_OK && result < UNPARSED_COUNT);
	REQUIRE(c.at >= c.start && c.at <= c.end);
	REQUIRE((p.port_state == PORT_HIDDEN) == (result >= UNPARSED_LATER_FRAGMENT));
	REQUIRE(p.port_state == PORT_NONE || view.ports);
	REQUIRE(p.port_state != PORT_KNOWN || parse_has_ports(p.protocol));
	REQUIRE(p.port_state == PORT_KNOWN || p.port == 0);
	if (result != PARSE_OK && result < UNPARSED_LATER_FRAGMENT)
		return 0;
	REQUIRE(p.version == 4 || p.version == 6);
	REQUIRE(p.version == 6 || (p.source[0] == 0 && p.source[1] >> 32 == 0));
	REQUIRE(p.claimed == 0 || p.claimed >= sizeof(struct ethhdr));
	REQUIRE(size >= sizeof(struct ethhdr) + (p.version == 4 ? 20 : 40));
	return 0;
}
