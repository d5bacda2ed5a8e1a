/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every structure that the data plane shares with user space. C is the one source of the layout:
 * bpf2go reads it from BTF, and a test in pkg/loader compares it with the Go twin's own structs.
 * Padding is explicit, so that no byte that crosses the border is undefined.
 */
#ifndef WEIR_TYPES_H
#define WEIR_TYPES_H

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define WEIR_LAYOUT_VERSION 1 /* raised when a pinned structure changes its shape or its meaning */

#define WEIR_MAX_POLICIES 64
#define WEIR_SET_WAYS 4
#define WEIR_POLICY_NAME_LEN 64 /* with the closing NUL */

/* What happened to a packet, as one policy sees it: an index into struct policy_counters. */
enum verdict {
	VERDICT_PASS = 0,
	VERDICT_DROP = 1,
	VERDICT_SHADOW_DROP = 2, /* would have been dropped, had the policy's mode been enforce */
	VERDICT_COUNT = 3,
};

/* Why a packet passed without being charged: an index into struct interface_counters.unparsed. */
enum unparsed_reason {
	UNPARSED_TRUNCATED = 0, /* a header ends beyond the packet */
	UNPARSED_NOT_IP = 1,    /* ARP, LLDP, and every other EtherType that is not IP or VLAN */
	UNPARSED_VLAN_DEPTH = 2,/* a third VLAN tag */
	UNPARSED_BAD_HEADER = 3,/* the version field contradicts the EtherType; the stack drops it */
	UNPARSED_NEIGHBOR_DISCOVERY = 4, /* IPv6's ARP, which no router forwards (RFC 4861) */
	UNPARSED_COUNT = 5,
};

enum policy_unit { UNIT_REQUESTS = 0, UNIT_BYTES = 1 };
enum policy_mode { MODE_ENFORCE = 0, MODE_SHADOW = 1 };
enum policy_on_pressure { ON_PRESSURE_PASS = 0, ON_PRESSURE_DROP = 1 };

/* The constants of a token bucket; bucket.h says how they are used, pkg/bucket computes them. */
struct bucket_limit {
	__u64 token_time; /* ticks that one token takes to come back, times 2^frac_bits */
	__u64 depth;      /* ticks that an empty bucket takes to fill: the burst */
	__u64 burst;      /* tokens in a full bucket; no single cost may be larger */
	__u32 frac_bits;  /* binary places of token_time below one tick */
	__u32 _pad;
};
_Static_assert(sizeof(struct bucket_limit) == 32, "bucket_limit is shared with Go");

/*
 * One source's bucket. owner and used are one word to a compare-and-swap: claiming an entry means
 * that nobody used it in between.
 */
struct bucket_entry {
	__u32 fingerprint; /* of the source and the policy; 0: never claimed */
	__u32 used;        /* tokens admitted since the claim, modulo 2^32 */
	__u64 tat;         /* theoretical arrival time in ticks: when the bucket will be full again */
};
_Static_assert(sizeof(struct bucket_entry) == 16, "bucket_entry is shared with Go");

struct bucket_set {
	struct bucket_entry way[WEIR_SET_WAYS];
};
_Static_assert(sizeof(struct bucket_set) == 64, "a set is one cache line");

/* All parts are random. key.h says what each is for. */
struct hash_key {
	__u64 offset[2];     /* for IPv4 and IPv6, so that the families are different functions */
	__u64 multiplier[2]; /* odd */
};
_Static_assert(sizeof(struct hash_key) == 32, "hash_key is shared with Go");

/* A policy as the packet path needs it; what only people read is in struct policy_label. */
struct policy {
	struct hash_key key; /* of this policy alone, derived from the table's secret */
	struct bucket_limit limit;
	__u64 ipv6_mask[2]; /* of the source address in host order, high half first */
	__u32 ipv4_mask;    /* the same for IPv4 */
	__u8 slot;          /* index of its counters; survives a reload, unlike its rank */
	__u8 unit;          /* enum policy_unit */
	__u8 mode;          /* enum policy_mode; to the program its rank says the same */
	__u8 on_pressure;   /* enum policy_on_pressure */
};
_Static_assert(sizeof(struct policy) == 88, "policy is shared with Go");

/* A policy as its author wrote it, so that what is loaded can be told without the file. */
struct policy_label {
	char name[WEIR_POLICY_NAME_LEN];
	__u64 limit;
	__u64 window_ns;
	__s64 priority;
	__u8 ipv4_prefix;
	__u8 ipv6_prefix;
	__u8 _pad[6];
};
_Static_assert(sizeof(struct policy_label) == 96, "policy_label is shared with Go");

/* Per policy and CPU. */
struct policy_counters {
	__u64 packets[VERDICT_COUNT];
	__u64 bytes[VERDICT_COUNT];
};
_Static_assert(sizeof(struct policy_counters) == 48, "policy_counters is shared with Go");

/* Per interface and CPU. */
struct interface_counters {
	__u64 unparsed[UNPARSED_COUNT];
	__u64 pressure;  /* a source without an entry found that all the ways of its set owe tokens */
	__u64 contended; /* denied because other CPUs won every compare-and-swap */
	__u64 _pad;
};
_Static_assert(sizeof(struct interface_counters) == 64, "interface_counters is shared with Go");

/* What all programs of one state directory have in common; drawn at the first load. */
struct table_identity {
	__u64 secret[2];      /* random; keeps the hash unpredictable to those who choose addresses */
	__u32 layout_version; /* WEIR_LAYOUT_VERSION of the program that made the table */
	__u32 _pad;
};
_Static_assert(sizeof(struct table_identity) == 24, "table_identity is shared with Go");

#endif
