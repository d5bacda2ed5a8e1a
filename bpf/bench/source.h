/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Invents sources, for the benchmark's two packet generators. */
#ifndef WEIR_BENCH_SOURCE_H
#define WEIR_BENCH_SOURCE_H

#include <linux/types.h>

/* xorshift64* (Vigna, 2016): every 32-bit source comes up, in an order that no cache can guess. */
static inline __attribute__((always_inline)) __u32 next_source(__u64 *state)
{
	__u64 x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dULL >> 32;
}

#endif
