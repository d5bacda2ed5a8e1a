// SPDX-License-Identifier: Apache-2.0
/* Replays testdata/vectors/bucket.txt on the data plane's C, compiled for this machine. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/key.h"
#include "../lib/slot.h"
#include "../lib/table.h"

#define MAX_ARGS 10
#define MAX_LINE 1024

struct replay {
	struct bucket_limit limit;
	struct bucket_set set;
	char out[MAX_LINE];
	size_t len;
};

static void print(struct replay *r, __u64 number)
{
	int n = snprintf(r->out + r->len, sizeof(r->out) - r->len, " %" PRIu64, (uint64_t)number);

	r->len += n > 0 ? (size_t)n : 0;
}

static void print_set(struct replay *r)
{
	for (int i = 0; i < WEIR_SET_WAYS; i++) {
		print(r, r->set.way[i].fingerprint);
		print(r, r->set.way[i].used);
		print(r, r->set.way[i].tat);
	}
}

static void do_take(struct replay *r, const __u64 *arg)
{
	__u64 next;
	int admitted = bucket_take(&r->limit, arg[0], arg[1], arg[2], &next);

	print(r, admitted);
	print(r, next);
}

static void do_hash(struct replay *r, const __u64 *arg)
{
	struct packet packet = { .version = arg[0], .source = { arg[1], arg[2] } };
	struct policy policy = {
		.ipv4_mask = arg[3],
		.ipv6_mask = { arg[4], arg[5] },
		.key = { .offset = { arg[6], arg[7] }, .multiplier = { arg[8], arg[9] } },
	};

	print(r, key_hash(&policy, &packet));
}

static void do_wait(struct replay *r, const __u64 *arg)
{
	print(r, bucket_wait(&r->limit, arg[0], arg[1], arg[2]));
}

static void do_pace(struct replay *r, const __u64 *arg)
{
	__u64 next, wait;
	int admitted = bucket_pace(&r->limit, arg[0], arg[1], arg[2], arg[3], &next, &wait);

	print(r, admitted);
	print(r, next);
	print(r, wait);
}

static void do_endpoint(struct replay *r, const __u64 *arg)
{
	struct packet packet = { .protocol = arg[0], .port = arg[1] };
	struct policy policy = {
		.scope = SCOPE_PER_ENDPOINT,
		.key = { .offset = { arg[2] }, .multiplier = { arg[3], arg[4] } },
	};

	print(r, key_hash(&policy, &packet));
}

static void do_global(struct replay *r, const __u64 *arg)
{
	struct packet packet = { .version = 4, .source = { 0, 1 }, .port = 1 };
	struct policy policy = {
		.scope = SCOPE_GLOBAL,
		.key = { .offset = { arg[0] }, .multiplier = { arg[1], arg[2] } },
	};

	print(r, key_hash(&policy, &packet));
}

static void do_slot(struct replay *r, const __u64 *arg)
{
	print(r, slot_index(arg[0]));
}

static void do_spend(struct replay *r, const __u64 *arg)
{
	struct slot s = { .credit = arg[0] };

	print(r, slot_spend(&s, arg[1]));
	print(r, s.credit);
}

static void do_lease(struct replay *r, const __u64 *arg)
{
	print(r, slot_lease(arg[0], arg[1]) * arg[1]);
}

static void do_worth(struct replay *r, const __u64 *arg)
{
	struct slot s = { .rate_id = arg[0], .credit = arg[1] };

	print(r, slot_worth(&s));
}

static void do_deny(struct replay *r, const __u64 *arg)
{
	struct slot s = { 0 };

	slot_deny(&s, arg[0], arg[1], arg[2], 1);
	print(r, s.deny_until);
}

static void do_denies(struct replay *r, const __u64 *arg)
{
	struct slot s = { .deny_until = arg[0], .deny_tokens = arg[1] };

	print(r, slot_denies(&s, arg[2], arg[3]));
}

static void do_clear(struct replay *r, const __u64 *arg)
{
	(void)arg;
	memset(&r->set, 0, sizeof(r->set));
}

static void do_set(struct replay *r, const __u64 *arg)
{
	struct table_charge c = {
		.cost = bucket_cost(&r->limit, arg[2]), .tokens = arg[2], .evict_debt = arg[3] != 0,
	};

	print(r, arg[2] > r->limit.burst ? 0 : table_take(&r->set, arg[0], &r->limit, arg[1], &c));
	print_set(r);
}

static void do_refund(struct replay *r, const __u64 *arg)
{
	table_refund(&r->set, arg[0], bucket_cost(&r->limit, arg[1]), arg[1]);
	print_set(r);
}

/* A limit's constants are computed in Go: here the expected ones are taken over, from behind the =. */
static void do_limit(struct replay *r, const __u64 *arg, const char *expected)
{
	sscanf(expected, " %" SCNu64 " %" SCNu64 " %" SCNu32, (uint64_t *)&r->limit.token_time,
	       (uint64_t *)&r->limit.depth, (uint32_t *)&r->limit.frac_bits);
	r->limit.burst = arg[2];
	print(r, r->limit.token_time);
	print(r, r->limit.depth);
	print(r, r->limit.frac_bits);
}

static const struct verb {
	const char *name;
	void (*run)(struct replay *r, const __u64 *arg);
} verbs[] = {
	{ "take", do_take }, { "wait", do_wait }, { "pace", do_pace }, { "hash", do_hash },
	{ "endpoint", do_endpoint }, { "global", do_global }, { "slot", do_slot }, { "spend", do_spend },
	{ "lease", do_lease }, { "worth", do_worth }, { "deny", do_deny }, { "denies", do_denies },
	{ "clear", do_clear }, { "set", do_set }, { "refund", do_refund },
};

static const struct verb *find_verb(const char *line)
{
	size_t length = strcspn(line, " ");

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strlen(verbs[i].name) == length && !strncmp(line, verbs[i].name, length))
			return &verbs[i];
	return NULL;
}

static int run(struct replay *r, char *line)
{
	char *expected = strstr(line, " =");
	char *next = line + strcspn(line, " ");
	const struct verb *verb = find_verb(line);
	__u64 arg[MAX_ARGS] = { 0 };

	if (expected) {
		*expected = 0;
		expected += 2;
	}
	for (int i = 0; i < MAX_ARGS && *next; i++)
		arg[i] = strtoull(next, &next, 10);
	r->len = 0;
	r->out[0] = 0;
	if (!strncmp(line, "limit ", 6) && expected)
		do_limit(r, arg, expected);
	else if (verb)
		verb->run(r, arg);
	else
		return 0;
	return !strcmp(r->out, expected ? expected : "");
}

int main(int argc, char **argv)
{
	struct replay r = { 0 };
	char line[MAX_LINE];
	int passed = 0, failed = 0;
	FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (!f) {
		fprintf(stderr, "usage: vectors FILE (testdata/vectors/bucket.txt)\n");
		return 2;
	}
	for (int n = 1; fgets(line, sizeof(line), f); n++) {
		line[strcspn(line, "\n")] = 0;
		if (!line[0] || line[0] == '#')
			continue;
		if (run(&r, line)) {
			passed++;
			continue;
		}
		failed++;
		fprintf(stderr, "%s:%d: %s\n got%s\n", argv[1], n, line, r.out);
	}
	fclose(f);
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed;
}
