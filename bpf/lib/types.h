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

#define WEIR_LAYOUT_VERSION 2 /* raised when a pinned structure changes its shape or its meaning */

#define WEIR_MAX_POLICIES 64
#define WEIR_SET_WAYS 4
#define WEIR_SLOTS 512 /* per CPU; a power of two, and 16 KiB: half of a first-level cache */
#define WEIR_MAX_BANS 65536 /* of each address family */
#define WEIR_FEW_SOURCES 16 /* so many prefixes are compared sooner than a trie is walked */
#define WEIR_NO_POLICY 255    /* where a policy's counter slot stands, of a verdict that no policy gave */

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
	/* These have a source, and are charged; but policies that ask for a port can't tell. */
	UNPARSED_LATER_FRAGMENT = 5, /* only a datagram's first fragment has the ports */
	UNPARSED_EXTENSION_DEPTH = 6,/* more IPv6 extension headers than are walked */
	UNPARSED_TRUNCATED_PORTS = 7,/* the frame ends before them */
	UNPARSED_COUNT = 8,
};

enum policy_unit { UNIT_REQUESTS = 0, UNIT_BYTES = 1 };
enum policy_mode { MODE_ENFORCE = 0, MODE_SHADOW = 1 };
enum policy_on_pressure { ON_PRESSURE_PASS = 0, ON_PRESSURE_DROP = 1 };
enum policy_scope { SCOPE_PER_IP = 0, SCOPE_PER_ENDPOINT = 1, SCOPE_GLOBAL = 2 };

/* What any policy of a program asks for, as bits of one constant. */
enum use {
	USE_TRIE_IPV4 = 1,
	USE_TRIE_IPV6 = 2,
	USE_FEW_SOURCES = 4,
	USE_PROTOCOL = 8,
	USE_PORTS = 16,     /* the map of that name */
	USE_ENDPOINT = 32,  /* protocol and port matter, if only for a bucket's key */
	USE_REPLACES = 64,
	USE_PACE = 128,
	USE_SHADOW = 256,
	USE_RECONCILED = 512,
};

/* The lists that are asked before any policy: an index into struct interface_counters.listed. */
enum list { LIST_NONE = 0, LIST_ALLOW = 1, LIST_DENY = 2, LIST_BAN = 3, LIST_COUNT = 4 };

/* Why a packet was dropped, or would have been: what an event says. */
enum cause {
	CAUSE_LIMIT = 0,
	CAUSE_STRANGER = 1, /* a first-seen source beyond new_sources */
	CAUSE_DENY = 2,     /* the list */
	CAUSE_BAN = 3,
	CAUSE_FRAGMENT = 4, /* on_fragment: drop */
};

/* The constants of a token bucket; bucket.h says how they are used, pkg/bucket computes them. */
struct bucket_limit {
	__u64 token_time; /* ticks that one token takes to come back, times 2^frac_bits */
	__u64 depth;      /* ticks that an empty bucket takes to fill: the burst */
	__u64 burst;      /* tokens in a full bucket; no single cost may be larger */
	__u32 frac_bits;  /* binary places of token_time below one tick */
	__u32 _pad;
};
_Static_assert(sizeof(struct bucket_limit) == 32, "bucket_limit is shared with Go");

/* A limit, and how the per-CPU slots may stand in for its bucket; slot.h says how. */
struct rate {
	struct bucket_limit limit;
	__u64 id;     /* token_time and frac_bits in one word, so that a slot knows what it is worth */
	__u32 lease;  /* tokens that a CPU may hold at most: burst / (16 * CPUs), so 0 for a small one */
	__u32 coarse; /* a jiffy is short beside the burst, so that jiffies may time a denial */
};
_Static_assert(sizeof(struct rate) == 48, "rate is shared with Go");

/* What one CPU remembers of one bucket. */
struct slot {
	__u64 hash;       /* of the bucket, all of it */
	__u64 deny_until; /* before it no packet of deny_tokens or more passes; 0: nothing known. Jiffies
			   * if the rate is coarse, else ticks */
	__u64 rate_id;    /* struct rate.id; 0: never filled */
	__u32 credit;     /* tokens that were taken from the bucket and are not spent yet */
	__u32 deny_tokens;
};
_Static_assert(sizeof(struct slot) == 32, "slot is shared with Go");

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

/* A byte of each fingerprint of two sets: who has none there has no entry, which a small map tells. */
struct tag_pair {
	__u8 tag[2 * WEIR_SET_WAYS];
};
_Static_assert(sizeof(struct tag_pair) == 8, "the kernel rounds an element up to eight bytes");

/* All parts are random. key.h says what each is for. */
struct hash_key {
	__u64 offset[2];     /* for IPv4 and IPv6, so that the families are different functions */
	__u64 multiplier[2]; /* odd */
};
_Static_assert(sizeof(struct hash_key) == 32, "hash_key is shared with Go");

/* A policy as the packet path needs it. What only people read is in the document that is pinned beside. */
struct policy {
	struct hash_key key; /* of this policy alone, derived from the table's secret */
	struct rate rate;
	struct rate new_sources; /* of first-seen sources; a burst of 0: no cap */
	__u64 new_sources_hash;  /* their bucket, in the same table */
	__u64 replaces;     /* the ranks of the policies that it overrides, as bits */
	__u64 ipv6_mask[2]; /* of the source address in host order, high half first */
	__u32 ipv4_mask;    /* the same for IPv4 */
	__u8 slot;          /* index of its counters; survives a reload, unlike its rank */
	__u8 unit;          /* enum policy_unit */
	__u8 mode;          /* enum policy_mode; to the program its rank says the same */
	__u8 on_pressure;   /* enum policy_on_pressure */
	__u8 scope;         /* enum policy_scope */
	__u8 pace;          /* delays what is over the limit instead of dropping it; on egress alone */
	__u8 reconciled;    /* whose sources are announced when they use much: hot.h */
	__u8 _pad[5];
};
_Static_assert(sizeof(struct policy) == 176, "policy is shared with Go");

/* What a source prefix is worth: the value of the source tries. */
struct source_rule {
	__u64 policies; /* whose match.sources it satisfies, its own and those of wider prefixes */
	__u32 list;     /* enum list: none, allow or deny */
	__u32 _pad;
};
_Static_assert(sizeof(struct source_rule) == 16, "source_rule is shared with Go");

/* The same for one of few prefixes, which are compared one after the other; host order. */
struct few_source {
	__u64 prefix[2];
	__u64 mask[2];
	struct source_rule rule; /* its own alone */
};
_Static_assert(sizeof(struct few_source) == 48, "few_source is shared with Go");

/* Keys of the tries. Addresses are in network order. */
struct lpm_ipv4 {
	__u32 prefix_length;
	__u8 address[4];
};
struct lpm_ipv6 {
	__u32 prefix_length;
	__u8 address[16];
};

/* A timed ban. A trie finds the longest prefix only, so a ban inside a longer one has to know it. */
struct ban {
	__u64 until;     /* ns of the monotonic clock: the latest end of the bans that cover this prefix */
	__u64 own_until; /* the end of this one; for user space */
};
_Static_assert(sizeof(struct ban) == 16, "ban is shared with Go");

/* What user space sets while packets go by. */
struct control_page {
	__u64 events_until; /* ns of the monotonic clock: somebody listens until then */
	__u32 bans[2];      /* entries in bans4 and bans6; at 0 they are not asked. */
};
_Static_assert(sizeof(struct control_page) == 16, "control_page is shared with Go");

/* One sample of the traffic; stats.h says how it is drawn. */
struct event {
	__u64 source[2]; /* as in struct packet */
	__u64 time;      /* ns of the monotonic clock */
	__u64 packets;   /* that it stands for: those since the last event of its kind on this CPU */
	__u64 bytes;     /* the same, were they all as long as this one: so sources stay in proportion */
	__u32 interface; /* its index */
	__u16 port;
	__u8 version;    /* 4 or 6 */
	__u8 protocol;
	__u8 verdict;    /* enum verdict */
	__u8 slot;       /* of the policy that denied, or that admitted last; WEIR_NO_POLICY */
	__u8 cause;      /* enum cause, of a drop */
	__u8 hook;       /* enum hook */
	__u8 _pad[4];
};
_Static_assert(sizeof(struct event) == 56, "event is shared with Go");

/*
 * What the reconciler of several nodes sets while packets go by, a page of its own. shift has to be
 * written before until is.
 */
struct hot_page {
	__u64 until;                    /* ns of the monotonic clock: somebody listens until then */
	__u8 shift[WEIR_MAX_POLICIES];  /* by a policy's counter slot: its sources are announced each 2^shift
					 * tokens, and never from WEIR_HOT_NEVER on */
};
_Static_assert(sizeof(struct hot_page) == 72, "hot_page is shared with Go");

#define WEIR_HOT_NEVER 32

/* A source whose use has passed a multiple of 2^shift tokens; hot.h says when. */
struct hot {
	__u64 source[2]; /* as in struct packet */
	__u64 time;      /* ns of the monotonic clock */
	__u64 hash;      /* of the bucket, which tells apart policies of one slot on two interfaces; secret */
	__u32 used;      /* struct bucket_entry.used, this packet's tokens and what was leased with them included */
	__u16 port;
	__u8 version;    /* 4 or 6 */
	__u8 protocol;
	__u8 slot;       /* of the policy's counters */
	__u8 _pad[7];
};
_Static_assert(sizeof(struct hot) == 48, "hot is shared with Go");

enum hook { HOOK_XDP = 0, HOOK_TC_INGRESS = 1, HOOK_TC_EGRESS = 2 };

/* What a CPU's sampler has not told yet, of one kind of verdict. */
struct sampler {
	__u64 packets;
	__u64 tick;   /* the coarse clock, when it was last looked at */
	__u32 gap;    /* packets until the next sample */
	__u32 mean;   /* of the gaps, as things go */
	__u32 events; /* since that tick */
	__u32 _pad;
};

/* Per policy and CPU. */
struct policy_counters {
	__u64 packets[VERDICT_COUNT];
	__u64 bytes[VERDICT_COUNT];
	__u64 strangers; /* of the drops, shadow or not: first-seen sources beyond new_sources */
	__u64 paced;     /* of the passes: those that were given a later departure */
};
_Static_assert(sizeof(struct policy_counters) == 64, "policy_counters is shared with Go");

/* Per interface and CPU. */
struct interface_counters {
	__u64 unparsed[UNPARSED_COUNT];
	__u64 pressure;  /* a source without an entry found that all the ways of its set owe tokens */
	__u64 contended; /* denied because other CPUs won every compare-and-swap */
	__u64 listed_packets[LIST_COUNT]; /* what a list decided, by enum list; the first is unused */
	__u64 listed_bytes[LIST_COUNT];
	__u64 events_lost; /* samples that found the ring buffer full */
	struct sampler sampler[2]; /* of what passed, and of what did not */
	__u64 hot_lost;    /* announcements that found the ring buffer full, or were one too many */
	__u64 hot_period;  /* of time, in which */
	__u64 hot_given;   /* so many were made */
	__u64 _pad[2];
};
_Static_assert(sizeof(struct interface_counters) == 256, "interface_counters is shared with Go");

/* What all programs of one state directory have in common; drawn at the first load. */
struct table_identity {
	__u64 secret[2];      /* random; keeps the hash unpredictable to those who choose addresses */
	__u32 layout_version; /* WEIR_LAYOUT_VERSION of the program that made the table */
	__u32 _pad;
};
_Static_assert(sizeof(struct table_identity) == 24, "table_identity is shared with Go");

#endif
