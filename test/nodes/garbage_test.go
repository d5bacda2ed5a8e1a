package nodes

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const garbageConfiguration = `
table: {l7_entries: 65536}
server: {http: ""}
redis: {key_prefix: test, url: "REDIS", command_timeout: 500ms}
fallback: {policy_cache: ""}
policies:
  - {name: leased, scope: per_user, limit: 60, window: 60s, burst: 60, match: {endpoints: [/leased]}}
  - {name: strict, scope: per_user, limit: 2, window: 60s, burst: 2, match: {endpoints: [/strict]}, consistency: strict}
  - {name: window, scope: per_user, limit: 2, window: 60s, algorithm: fixed_window, match: {endpoints: [/window]}, consistency: strict}
  - {name: flights, scope: per_user, limit: 2, window: 60s, algorithm: concurrency, match: {endpoints: [/flights]}}
  - {name: good, scope: per_user, limit: 150, window: 1s, burst: 300, match: {endpoints: [/good]}, on_store_failure: closed}
`

// spoil puts something else under each bucket's key: each of 10 kinds, in turn. It does what the scripts of weir do not.
const spoil = `
local garbage = {
	function(k) redis.call('SET', k, 'garbage') end,
	function(k) redis.call('RPUSH', k, 'a', 'b') end,
	function(k) redis.call('SADD', k, 'a') end,
	function(k) redis.call('XADD', k, '*', 'd', '1') end,
	function(k) redis.call('HSET', k, 'd', 'nan', 't', 'inf', 'c', '-1', 'w', 'nan', 'n', '-inf') end,
	function(k) redis.call('HSET', k, 'd', '-1e308', 't', '', 'c', '\0\255', 'w', '', 'n', 'x') end,
	function(k) redis.call('HSET', k, 'd', '1e400', 't', '99999999999999999999999', 'w', '1e400', 'n', '1e400') end,
	function(k) redis.call('SET', k, '18446744073709551616') end,
	function(k) redis.call('ZADD', k, '-inf', 'a', 'inf', 'b', '0', string.rep('x', 1000)) end,
	function(k) redis.call('HSET', k, 'd', 'garbage', 't', 'garbage', 'c', 'garbage', 'w', 'garbage', 'n', 'garbage', 'p', 'garbage') end,
}
local n = 0
for _, family in ipairs({'b', 'w', 'c'}) do
	for _, k in ipairs(redis.call('KEYS', 'test:' .. family .. ':*')) do
		redis.call('DEL', k)
		garbage[n % #garbage + 1](k)
		n = n + 1
	end
end
return n`

// TestGarbage has Redis hold 10 000 things that break all rules, under the keys of as many buckets.
func TestGarbage(t *testing.T) {
	t.Parallel()
	const limit, burst, users = 150.0, 300.0, 2500
	endpoints := []string{"/leased", "/strict", "/window", "/flights"}
	r := newRig(t, garbageConfiguration)
	r.start()
	r.everybody(endpoints, users)
	n, err := strconv.Atoi(r.redis.do("EVAL", spoil, "0"))
	if err != nil || n < len(endpoints)*users {
		t.Fatalf("%d keys, %v", n, err)
	}

	// Somebody whose bucket is well is limited meanwhile as if nothing was.
	began := time.Now()
	var good asked
	var all sync.WaitGroup
	const lasts = 4 * time.Second
	before := r.redis.operations()
	all.Go(func() {
		good = asking{endpoint: "/good", user: "alice", rates: even(limit), last: lasts, workers: 4, random: true}.run(t, began, r.nodes...)
	})
	admitted, denied := r.everybody(endpoints, users)
	took := time.Since(began)
	all.Wait()
	errors, broken := 0.0, 0.0
	for _, n := range r.nodes {
		errors += n.metric("rate_limiter_redis_errors_total", "class=state")
		broken += n.metric("rate_limiter_lease_broken_buckets_total")
		if opened := n.metric("rate_limiter_breaker_opened_total"); opened != 0 {
			t.Errorf("%s: the breaker opened %v times", n.name, opened)
		}
	}
	decisions := admitted + denied + good.total()
	operations := r.redis.operations() - before
	most := excess(good.admitted, limit)
	t.Logf("%d keys spoilt; %d of their users admitted, %d denied, in %v; errors of state: %.0f, broken buckets: %.0f; the good one: %d admitted of %.0f allowed, %.1f beyond the rate; Redis: %d operations, %.1f per 1000 decisions",
		n, admitted, denied, took.Round(time.Millisecond), errors, broken, len(good.admitted), 1.1*burst+limit*lasts.Seconds(), most, operations, 1000*float64(operations)/float64(decisions))
	// Each is asked for once, and this node's own bucket has never been: it falls back to that.
	if admitted < len(endpoints)*users {
		t.Errorf("%d of %d were admitted by the node itself", admitted, len(endpoints)*users)
	}
	if errors < float64(n) || broken < float64(n) {
		t.Errorf("%.0f errors, %.0f broken buckets, of %d keys", errors, broken, n)
	}
	for _, err := range good.failed {
		t.Error(err)
	}
	if used := float64(len(good.admitted)) / (burst + limit*lasts.Seconds()); most > 1.1*burst+0.001 || used < 0.85 {
		t.Errorf("who has a good bucket used %.2f of the limit, %.1f beyond the rate", used, most)
	}
	r.spoilNodes()
}

// everybody asks once for each user at each endpoint, at one node or another.
func (r *rig) everybody(endpoints []string, users int) (admitted, denied int) {
	r.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, n := range r.nodes {
		for w := range 4 {
			all.Go(func() {
				for u := i + 3*w; u < users; u += 12 {
					for _, e := range endpoints {
						ok, err := n.check(e, fmt.Sprint("user", u))
						if err != nil {
							r.Errorf("%s of user%d: %v", e, u, err)
							return
						}
						mu.Lock()
						if ok {
							admitted++
						} else {
							denied++
						}
						mu.Unlock()
					}
				}
			})
		}
	}
	all.Wait()
	return admitted, denied
}

// spoilNodes spoils what nodes know each other by, for longer than a heartbeat lives, and mends it.
func (r *rig) spoilNodes() {
	r.Helper()
	for _, key := range []string{"test:nodes", "test:epoch", "test:policies"} {
		// In one step: a heartbeat in between would make the key anew.
		r.redis.do("EVAL", "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'garbage')", "1", key)
	}
	eventually(r.T, "a log line of each node", func() error {
		for _, n := range r.nodes {
			if !strings.Contains(fmt.Sprint(n.log), "something else is under the key") {
				return fmt.Errorf("%s says nothing", n.name)
			}
		}
		return nil
	})
	for _, n := range r.nodes {
		if _, err := n.check("/good", "bob"); err != nil {
			r.Error(err)
		}
	}
	r.redis.do("DEL", "test:nodes", "test:epoch", "test:policies")
	r.awaitNodes(3)
	eventually(r.T, "somebody to be admitted again", func() error {
		for _, n := range r.nodes {
			if ok, err := n.check("/good", "bob"); err != nil || !ok {
				return fmt.Errorf("%s: %v, %w", n.name, ok, err)
			}
		}
		return nil
	})
}
