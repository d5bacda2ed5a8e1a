/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps and the load-time constants. User space names them; rename none without it. */
#ifndef WEIR_MAPS_H
#define WEIR_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

/*
 * The buckets of all sources, policies and interfaces. An array, so that a look-up is arithmetic and
 * user space can map it; a page-aligned one, so that a set is a cache line. The loader sets
 * max_entries to the number of sets, a power of two.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bucket_set);
	__uint(max_entries, 1);
} table SEC(".maps");

/*
 * A sixteenth of the table's size, so that it stays in the cache when the table does not: in a flood of
 * strangers, of which each would cost a miss there, it tells that they are. Whoever claims an entry
 * writes its tag here afterwards; until then a source may be taken for a stranger, once.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tag_pair);
	__uint(max_entries, 1);
} tags SEC(".maps");

/*
 * What each CPU knows of the buckets that it used last: WEIR_SLOTS for the first CPU, then those of the
 * next. Not a per-CPU map, so that user space can clear a slot in memory, and so that slots lie in
 * cache lines of their own. Shared like the table, as the bound on what a source is admitted counts
 * CPUs, not programs. The loader sets max_entries by the CPUs that there may be.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct slot);
	__uint(max_entries, WEIR_SLOTS);
} slots SEC(".maps");

/* No program reads it: the loader keeps here what the next loader needs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct table_identity);
	__uint(max_entries, 1);
} identity SEC(".maps");

/* Timed bans of all interfaces. User space adds and removes them; they end by themselves. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_ipv4);
	__type(value, struct ban);
	__uint(max_entries, WEIR_MAX_BANS);
} bans4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_ipv6);
	__type(value, struct ban);
	__uint(max_entries, WEIR_MAX_BANS);
} bans6 SEC(".maps");

/* Samples of the traffic, for weir top. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* A section of its own is a map of its own, which is read without a look-up. */
struct control_page control SEC(".data.control") = {};

/* Sources that use much, for the reconciler; hot.h bounds how many. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} hot_sources SEC(".maps");

struct hot_page hot_control SEC(".data.hot") = {};

/* What match.h asks. The loader makes them anew for each program, as large as it takes. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_ipv4);
	__type(value, struct source_rule);
	__uint(max_entries, 1);
} sources4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_ipv6);
	__type(value, struct source_rule);
	__uint(max_entries, 1);
} sources6 SEC(".maps");

/* By port: the policies whose match.ports it satisfies, those without one included. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct policy_counters);
	__uint(max_entries, WEIR_MAX_POLICIES);
} policy_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct interface_counters);
	__uint(max_entries, 1);
} interface_stats SEC(".maps");

/*
 * Policies are constants of a program, not the contents of a map: a change loads a new program, and
 * the one swap of the link makes the whole new set true for a packet, or nothing of it.
 */
const volatile struct policy policies[WEIR_MAX_POLICIES] = {};
const volatile __u32 hook = 0;             /* enum hook */
const volatile __u32 enforce_count = 0;    /* the first so many policies enforce; */
const volatile __u64 enforcing_policies = 0; /* the same as bits by rank */
const volatile __u32 policy_count = 0;     /* the others up to here are in shadow */
const volatile __u32 table_mask = 0;       /* sets - 1 */
const volatile __u32 jiffy = 0;            /* ns, what one takes */
const volatile __u32 multi_buffer = 0;     /* kernel 5.18: packets may span several buffers */

/*
 * Which policies apply: in each of these words, and in the maps above, a bit by rank. What no policy
 * uses is off, and the verifier takes its code out of the program; its load of a constant would stay, and
 * so one word has all that is asked of every packet.
 */
const volatile __u32 uses = 0;             /* enum use */
const volatile __u32 few_sources4 = 0;     /* so many of few_sources are IPv4's, */
const volatile __u32 few_sources6 = 0;     /* and IPv6's behind them up to here */
const volatile struct few_source few_sources[WEIR_FEW_SOURCES] = {};
const volatile __u64 sourceless_policies = 0; /* satisfied by a source that no prefix covers */
const volatile __u64 protocol_policies[256] = {};
const volatile __u64 portless_policies = 0; /* satisfied without a port */
const volatile __u64 endpoint_policies = 0; /* need to know protocol and port */
const volatile __u64 hidden_drop = 0;       /* on_fragment: drop */

#endif
