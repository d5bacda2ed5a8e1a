/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counters and samples: per CPU, so that they need no atomic. */
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include "clock.h"
#include "maps.h"
#include "parse.h"

static __always_inline struct policy_counters *stats_of(__u32 slot)
{
	return bpf_map_lookup_elem(&policy_stats, &slot);
}

static __always_inline void stats_policy(__u32 slot, enum verdict verdict,
					 const struct packet *p)
{
	struct policy_counters *c = stats_of(slot);

	if (!c)
		return; /* slot < WEIR_MAX_POLICIES, which the verifier can't know */
	c->packets[verdict] += p->segments;
	c->bytes[verdict] += p->length;
}

static __always_inline void stats_undo_pass(__u32 slot, const struct packet *p)
{
	struct policy_counters *c = stats_of(slot);

	if (!c)
		return;
	c->packets[VERDICT_PASS] -= p->segments;
	c->bytes[VERDICT_PASS] -= p->length;
}

static __always_inline void stats_stranger(__u32 slot, const struct packet *p)
{
	struct policy_counters *c = stats_of(slot);

	if (c)
		c->strangers += p->segments;
}

static __always_inline void stats_paced(__u32 slot, const struct packet *p)
{
	struct policy_counters *c = stats_of(slot);

	if (c)
		c->paced += p->segments;
}

static __always_inline void stats_undo_paced(__u32 slot, const struct packet *p)
{
	struct policy_counters *c = stats_of(slot);

	if (c)
		c->paced -= p->segments;
}

static __always_inline struct interface_counters *stats_interface(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&interface_stats, &zero);
}

static __always_inline void stats_unparsed(__u32 reason)
{
	struct interface_counters *c = stats_interface();

	if (c && reason < UNPARSED_COUNT)
		c->unparsed[reason]++;
}

static __always_inline void stats_table(int pressure, int contended)
{
	struct interface_counters *c = stats_interface();

	if (!c)
		return;
	c->pressure += pressure;
	c->contended += contended;
}

static __always_inline void stats_listed(__u32 list, const struct packet *p)
{
	struct interface_counters *c = stats_interface();

	if (!c || list >= LIST_COUNT)
		return; /* the list came from a map, of which the verifier knows nothing */
	c->listed_packets[list] += p->segments;
	c->listed_bytes[list] += p->length;
}

/* When a packet may depart: on egress, by the policies that pace. */
struct departure {
	__u64 delay; /* ticks until then; 0: at once */
	__u64 paced; /* the ranks of the policies that delay it, as bits */
};

/* What became of a packet, and who said so. */
struct ruling {
	enum verdict verdict;
	enum cause cause;
	__u32 slot;  /* of the policy that denied it, or would have; WEIR_NO_POLICY if none did */
	struct departure departure;
};

/* About a thousand samples a second and CPU, of each kind: so many in a tick of the coarse clock. */
#define SAMPLE_PER_TICK (jiffy / (1000 * 1000) + 1)
#define SAMPLE_MOST_PER_TICK (8 * SAMPLE_PER_TICK)
#define SAMPLE_GAP_MAX (1U << 20)

static __always_inline void sample_fill(struct event *e, const struct packet *p,
					const struct ruling *r, const struct sampler *s)
{
	e->source[0] = p->source[0];
	e->source[1] = p->source[1];
	e->packets = s->packets;
	e->bytes = s->packets * (p->length / (p->segments ? p->segments : 1));
	e->port = p->port;
	e->version = p->version;
	e->protocol = p->protocol;
	e->verdict = r->verdict;
	e->slot = r->slot;
	e->cause = r->cause;
	e->hook = hook;
}

/* Once a tick: steers the gap between samples towards the budget. */
static __always_inline void sample_steer(struct sampler *s, __u64 now)
{
	if (now == s->tick)
		return;
	if (!s->mean)
		s->mean = 1;
	if (s->events > SAMPLE_PER_TICK && s->mean < SAMPLE_GAP_MAX)
		s->mean *= 2;
	else if (s->events < SAMPLE_PER_TICK / 2 && s->mean > 1)
		s->mean /= 2;
	if (s->gap > 2 * s->mean)
		s->gap = 2 * s->mean; /* from before a flood ended */
	s->tick = now;
	s->events = 0;
}

/*
 * Whether this packet is the sample. The gaps are random, 1 to 2 mean - 1, so that no sender's rhythm fits
 * them. Ticks alone would not do: at a tick buckets gain tokens and horizons end, and so who passes then is
 * not who passes at other times.
 */
static __always_inline int sample_due(struct sampler *s, const struct packet *p)
{
	if (s->gap > p->segments) {
		s->gap -= p->segments;
		return 0;
	}
	s->gap = 1 + bpf_get_prandom_u32() % (2 * s->mean - 1);
	return s->events < SAMPLE_MOST_PER_TICK;
}

/*
 * Draws a sample of the traffic while somebody listens: each event stands for all packets of its kind
 * since the last one. The budget is of time, so that a flood changes how many packets an event stands
 * for, and not how many events there are. Passes and drops are sampled apart: however many drops
 * there are, what passes is seen too.
 */
static __always_inline void sample(const struct packet *p, const struct ruling *r, __u32 interface,
				   struct clock *clock)
{
	const volatile struct control_page *listener = &control;
	struct interface_counters *c;
	struct sampler *s;
	struct event *e;

	if (!listener->events_until || clock_coarse_ns(clock) >= listener->events_until)
		return;
	c = stats_interface();
	if (!c)
		return;
	s = &c->sampler[r->verdict == VERDICT_DROP];
	s->packets += p->segments;
	sample_steer(s, clock_coarse_ns(clock));
	if (!sample_due(s, p))
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		c->events_lost++;
		return; /* the weight goes on to the next one */
	}
	__builtin_memset(e, 0, sizeof(*e));
	sample_fill(e, p, r, s);
	e->time = clock_coarse_ns(clock);
	e->interface = interface;
	s->packets = 0;
	s->events++;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP); /* the listener looks by itself, ten times a second */
}

#endif
