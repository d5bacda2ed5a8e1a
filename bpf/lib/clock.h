/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The packet's clocks. Each is read once, and only if something depends on it: reading the exact one
 * costs more than all else that an admitted packet needs. The coarse one, which the timer interrupt
 * moves, is a few times cheaper and behind by a jiffy (1 to 10 ms) at most. The count of jiffies
 * itself is one load.
 */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bucket.h"

struct clock {
	__u64 exact;  /* ns; 0: not read yet */
	__u64 coarse;
};

static __always_inline __u64 clock_exact(struct clock *c)
{
	if (!c->exact)
		c->exact = bpf_ktime_get_ns();
	return bucket_ticks(c->exact);
}

static __always_inline __u64 clock_coarse_ns(struct clock *c)
{
	if (!c->coarse)
		c->coarse = bpf_ktime_get_coarse_ns();
	return c->coarse;
}

#endif
