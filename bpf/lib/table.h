/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The bucket table: sets of four entries, one cache line each. Pure C over one set; who finds the
 * set (a BPF array, a mapped file, a test's memory) is the caller's affair.
 *
 * A source's hash names the set and a 32-bit fingerprint. An entry whose TAT is past is a full
 * bucket and so carries no information: a newcomer takes it over, and nothing is forgotten. That is
 * why a flood of invented sources cannot push out anybody's debt as long as its own entries expire:
 * each lives for one token time.
 *
 * Races. An entry is two words, the tag (fingerprint and used) and the TAT, and each changes by a
 * compare-and-swap of its own. What can interleave, and what it costs:
 *   1. Two CPUs charge one entry: one of them loses the swap of the TAT and decides anew. Exact.
 *   2. Two CPUs claim one entry: one of them loses the swap of the tag and looks again. It finds its
 *      own source there if that is who came first. Exact.
 *   3. CPU A found its source's entry, B claims it for another source, A charges it: the newcomer
 *      pays for A's packet. One packet's cost, against the newcomer.
 *   4. All ways owe, B claims one and clears its debt; between the two A, of the same new source,
 *      charges the old debt: A's packet is denied, or B's clearing fails and the newcomer keeps it.
 *   5. Two CPUs bring the same new source and choose different ways, because what one of them claimed
 *      changed the order for the other: each looks once more after its claim, and gives it up if the
 *      source has another entry. Exact.
 *   6. A refund meets an entry that was claimed meanwhile: it finds no fingerprint and gives nothing
 *      back (one packet, against the source), or the claim comes in between (one packet, for the
 *      newcomer).
 * So each errs by one packet's cost, and needs a neighbour in the same set within the nanoseconds
 * between two instructions. User space that adjusts a TAT by what other nodes admitted adds two, which err
 * by what is added or taken:
 *   7. It found a source's entry, B claims it for another source, and it swaps the TAT. It looks at the tag
 *      once more and takes the adjustment back, unless the newcomer was charged in between: then that one
 *      has it.
 *   8. B claims an owing entry, the TAT is adjusted, and B's clearing of the debt fails, as in 4: the
 *      newcomer keeps the debt unless the look at the tag comes after the claim's swap.
 * Against an adjustment charges and refunds are one swap each, and exact.
 */
#ifndef WEIR_TABLE_H
#define WEIR_TABLE_H

#include "bucket.h"

/* Swaps that a packet tries before it gives up; each loss means that another CPU went ahead. */
#define TABLE_TRIES 8

/* What table_take found and did. */
#define TAKE_ADMITTED 1
#define TAKE_CLAIMED 2   /* the source had no entry and has one now */
#define TAKE_PRESSURE 4  /* ... or could only have had one by another's unpaid debt */
#define TAKE_CONTENDED 8 /* denied because every swap was lost */
#define TAKE_RETRY 16    /* of one try: another CPU went ahead */
#define TABLE_WAY_SHIFT 8

#define TABLE_WORTH_NOTHING (-0x7fffffffffffffffLL - 1)

#define TABLE_LOAD(field) (*(const volatile __typeof__(field) *)&(field))

/* The first word of an entry, as one number in the byte order of the machine. */
union table_tag {
	struct {
		__u32 fingerprint;
		__u32 used;
	};
	__u64 word;
};

/* 0 means an unclaimed entry, so no source may have it for its fingerprint. */
static __always_inline __u32 table_fingerprint(__u64 hash)
{
	__u32 high = hash >> 32;

	return high ? high : 1;
}

static __always_inline struct bucket_entry *table_find(struct bucket_set *set, __u32 fingerprint)
{
	for (int i = 0; i < WEIR_SET_WAYS; i++)
		if (TABLE_LOAD(set->way[i].fingerprint) == fingerprint)
			return &set->way[i];
	return 0;
}

static __always_inline __u32 table_count(struct bucket_set *set, __u32 fingerprint)
{
	__u32 count = 0;

	for (int i = 0; i < WEIR_SET_WAYS; i++)
		count += TABLE_LOAD(set->way[i].fingerprint) == fingerprint;
	return count;
}

/*
 * How much an entry would be missed, least first: one that nobody claimed, then by TAT. Of two full
 * buckets the one that was used last is worth more: it still says that its source was seen before.
 */
static __always_inline __s64 table_worth(const struct bucket_entry *e, __u64 now)
{
	__s64 ahead = (__s64)(TABLE_LOAD(e->tat) - now);

	if (!TABLE_LOAD(e->fingerprint))
		return TABLE_WORTH_NOTHING;
	if (ahead > (__s64)(BUCKET_DEPTH_MAX + BUCKET_SKEW_MAX))
		return TABLE_WORTH_NOTHING + 1; /* from before the clock wrapped: see bucket_debt */
	return ahead;
}

static __always_inline __u32 table_victim(struct bucket_set *set, __u64 now, __s64 *worth)
{
	__u32 victim = 0;

	*worth = table_worth(&set->way[0], now);
	for (__u32 i = 1; i < WEIR_SET_WAYS; i++) {
		__s64 w = table_worth(&set->way[i], now);

		if (w < *worth) {
			*worth = w;
			victim = i;
		}
	}
	return victim;
}

/*
 * Gives the source an entry. A full bucket is taken over as it is, by one swap of its tag; only a
 * debt has to be cleared. Returns TAKE_ flags, with the entry's index above TABLE_WAY_SHIFT when
 * TAKE_CLAIMED is among them. Without it there is no entry to be had: a swap was lost (0), or a debt
 * is in the way (TAKE_PRESSURE).
 */
static __always_inline __u32 table_claim(struct bucket_set *set, __u32 fingerprint, __u64 now, int evict_debt)
{
	union table_tag old, mine = { { fingerprint, 0 } };
	struct bucket_entry *victim;
	__u32 way, flags;
	__s64 worth;
	__u64 tat;

	way = table_victim(set, now, &worth);
	victim = &set->way[way];
	flags = worth > 0 ? TAKE_PRESSURE : 0;
	if (worth > 0 && !evict_debt)
		return flags;
	old.word = TABLE_LOAD(*(__u64 *)victim);
	/* Look again now that the tag is known: had the entry been claimed and charged since, the
	 * swap below would succeed on the new tag and take over its debt. */
	tat = TABLE_LOAD(victim->tat);
	if (table_worth(victim, now) != worth)
		return 0;
	if (__sync_val_compare_and_swap((__u64 *)victim, old.word, mine.word) != old.word)
		return 0;
	/* Only if nobody has charged it since: a CPU that is kept from running between these two swaps,
	 * as a virtual one may be for long, would forget all that others take in the meantime. */
	if (worth > 0 || worth == TABLE_WORTH_NOTHING)
		__sync_val_compare_and_swap(&victim->tat, tat, now);
	if (table_count(set, fingerprint) > 1) {
		__sync_val_compare_and_swap((__u64 *)victim, mine.word, 0);
		return 0; /* another CPU brought the same source: look again */
	}
	return flags | TAKE_CLAIMED | way << TABLE_WAY_SHIFT;
}

/* What is asked of a source's bucket, and what came of it. */
struct table_charge {
	__u64 cost;       /* ticks, at most the limit's depth */
	__u64 extra;      /* ticks that are taken as well, if the bucket holds both; 0: none */
	__u64 ahead;      /* ticks: what has to wait no longer is admitted, to be delayed; 0: no pacing */
	__u32 tokens;     /* that cost pays for, to be counted as used */
	__u32 more;       /* the same for extra */
	__u32 evict_debt; /* a newcomer that finds four debts takes the place of the smallest, or is denied */
	__u32 took_extra; /* result */
	__u32 claimed;    /* result: the way that was claimed, and 1; 0: none was */
	__u32 used;       /* result, if admitted: what the entry had used before */
	__u64 wait;       /* result: ticks until cost would be admitted, or until it may depart */
};

/* One decision on a bucket whose TAT is known; table_take swaps it in. */
static __always_inline int table_decide(const struct bucket_limit *l, __u64 tat, __u64 now,
					struct table_charge *c, __u64 *next)
{
	__u64 both;

	c->took_extra = 0;
	c->wait = 0;
	if (c->ahead)
		return bucket_pace(l, tat, now, c->cost, c->ahead, next, &c->wait);
	if (!bucket_charge(l, tat, now, c->cost, next)) {
		c->wait = bucket_wait(l, *next, now, c->cost);
		return 0;
	}
	if (c->extra && bucket_charge(l, *next, now, c->extra, &both)) {
		*next = both;
		c->took_extra = 1;
	}
	return 1;
}

/* Finds the source's entry, or gives it one; 0 if there is none to be had, and *flags says why. */
static __always_inline struct bucket_entry *table_enter(struct bucket_set *set, __u32 fingerprint,
							__u64 now, struct table_charge *c,
							__u32 *flags)
{
	struct bucket_entry *e = table_find(set, fingerprint);
	__u32 claim;

	if (e)
		return e;
	claim = table_claim(set, fingerprint, now, c->evict_debt);
	*flags = claim & (TAKE_PRESSURE | TAKE_CLAIMED);
	if (!(claim & TAKE_CLAIMED)) {
		if (claim != TAKE_PRESSURE)
			*flags |= TAKE_RETRY;
		return 0;
	}
	c->claimed = (claim >> TABLE_WAY_SHIFT & (WEIR_SET_WAYS - 1)) + 1;
	return &set->way[c->claimed - 1];
}

/* The tokens that an admitted charge took. */
static __always_inline __u32 table_used(const struct table_charge *c)
{
	return c->tokens + (c->took_extra ? c->more : 0);
}

/* Charges an entry: TAKE_ADMITTED, 0, or TAKE_RETRY if another CPU went ahead. */
static __always_inline __u32 table_settle(struct bucket_entry *e, const struct bucket_limit *l,
					  __u64 now, struct table_charge *c)
{
	__u64 tat = TABLE_LOAD(e->tat), next;
	int admitted = table_decide(l, tat, now, c, &next);

	if (next == tat)
		return admitted; /* denied, or a cost that rounds to nothing */
	if (__sync_val_compare_and_swap(&e->tat, tat, next) != tat)
		return TAKE_RETRY;
	if (admitted)
		c->used = __sync_fetch_and_add(&e->used, table_used(c));
	return admitted;
}

/* Tries once to charge the source's bucket, giving it one first if need be. */
static __always_inline __u32 table_try(struct bucket_set *set, __u32 fingerprint,
				       const struct bucket_limit *l, __u64 now,
				       struct table_charge *c)
{
	__u32 flags = 0;
	struct bucket_entry *e = table_enter(set, fingerprint, now, c, &flags);

	return e ? flags | table_settle(e, l, now, c) : flags;
}

/* What the tries came to, of which the last one lost too. Others took tokens meanwhile, so the bucket
 * was in use; denying errs by a delay, admitting would err beyond the limit. */
static __always_inline __u32 table_give_up(__u32 flags, struct table_charge *c)
{
	c->wait = 0;
	return (flags & ~TAKE_RETRY) | TAKE_CONTENDED;
}

/*
 * Charges the source's bucket. Returns TAKE_ flags; what is denied by pressure or because every swap
 * was lost has a wait of 0. The packet path has a loop of its own, charge.h says why.
 */
static __always_inline __u32 table_take(struct bucket_set *set, __u32 fingerprint,
					const struct bucket_limit *l, __u64 now,
					struct table_charge *c)
{
	__u32 flags = 0;

	c->wait = 0;
	for (int i = 0; i < TABLE_TRIES; i++) {
		__u32 took = table_try(set, fingerprint, l, now, c);

		flags |= took;
		if (!(took & TAKE_RETRY))
			return flags & ~TAKE_RETRY;
	}
	return table_give_up(flags, c);
}

/* Gives back what table_take took. A source whose entry is gone has nothing to be given back to. */
static __always_inline void table_refund(struct bucket_set *set, __u32 fingerprint, __u64 cost,
					 __u32 tokens)
{
	for (int i = 0; i < TABLE_TRIES; i++) {
		struct bucket_entry *e = table_find(set, fingerprint);
		__u64 tat;

		if (!e)
			return;
		tat = TABLE_LOAD(e->tat);
		if (__sync_val_compare_and_swap(&e->tat, tat, bucket_refund(tat, cost)) != tat)
			continue;
		__sync_fetch_and_sub(&e->used, tokens);
		return;
	}
}

#endif
