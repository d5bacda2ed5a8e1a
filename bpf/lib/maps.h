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

/* No program reads it: the loader keeps here what the next loader needs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct table_identity);
	__uint(max_entries, 1);
} identity SEC(".maps");

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
const volatile struct policy_label policy_labels[WEIR_MAX_POLICIES] = {};
const volatile __u32 enforce_count = 0;    /* the first so many policies enforce */
const volatile __u32 policy_count = 0;     /* the others up to here are in shadow */
const volatile __u32 table_mask = 0;       /* sets - 1 */
const volatile __u32 multi_buffer = 0;     /* kernel 5.18: packets may span several buffers */

#endif
