package nodes

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const faultsConfiguration = `
table: {l7_entries: 65536}
server: {http: ""}
redis: {key_prefix: test, url: "REDIS", command_timeout: 60ms}
fallback: {policy_cache: "", health_check_interval: 1s}
policies:
  - {name: leased-local, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/leased-local]}, on_store_failure: local}
  - {name: leased-share, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/leased-share]}, on_store_failure: share}
  - {name: strict-local, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/strict-local]}, consistency: strict, on_store_failure: local}
  - {name: strict-open, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/strict-open]}, consistency: strict, on_store_failure: open}
  - {name: strict-closed, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/strict-closed]}, consistency: strict, on_store_failure: closed}
`

const (
	faultLimit = 150.0
	faultBurst = 150.0
	faultAsked = 4 * faultLimit // a second, of each policy, by all nodes: more than all of them may admit

	faultBegins = 1500 * time.Millisecond
	faultLasts  = 3 * time.Second
	faultSettle = 2 * time.Second // until limits are shared again
	faultAfter  = 2 * time.Second
)

// fault is what may happen to Redis.
type fault struct {
	name  string
	begin func(*store) (end func())
	// always is part of make test; the others need make test-nodes.
	always bool
	// momentary: it is over as soon as it has begun.
	momentary bool
}

// refusing makes Redis refuse by its own configuration.
func refusing(set, reset []string) func(*store) func() {
	return func(s *store) func() {
		s.do(set...)
		return func() { s.do(reset...) }
	}
}

var faults = []fault{
	{name: "killed", always: true, begin: func(s *store) func() {
		s.kill()
		return s.start
	}},
	{name: "frozen", begin: func(s *store) func() {
		s.signal(unix.SIGSTOP)
		return func() { s.signal(unix.SIGCONT) }
	}},
	{name: "cut off", begin: func(s *store) func() { return cutOff(s.t, s.host, redisPort+1) }},
	{name: "slow by 200 ms", begin: func(s *store) func() {
		s.way.delay.Store(int64(100 * time.Millisecond)) // each way
		return func() { s.way.delay.Store(0) }
	}},
	{name: "read-only", begin: refusing([]string{"REPLICAOF", "203.0.113.254", "1"}, []string{"REPLICAOF", "NO", "ONE"})},
	{name: "out of memory", begin: refusing([]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"})},
	{name: "not authenticated", begin: func(s *store) func() {
		s.do("CONFIG", "SET", "requirepass", "changed")
		s.way.hangUp() // who is connected stays authenticated
		return func() { s.do("-a", "changed", "--no-auth-warning", "CONFIG", "SET", "requirepass", "") }
	}},
	{name: "wiped", always: true, momentary: true, begin: func(s *store) func() {
		s.do("FLUSHALL")
		return func() {}
	}},
}

// onFailure is how many times its limit a policy admits a second while Redis is away: three nodes for themselves, or
// together; what is saved up of the bursts comes on top.
var onFailure = map[string]struct{ least, most float64 }{
	"leased-local":  {2.5, 4.5},
	"leased-share":  {0.85, 1.6},
	"strict-local":  {2.5, 4.5},
	"strict-open":   {0.9 * faultAsked / faultLimit, 1.05 * faultAsked / faultLimit},
	"strict-closed": {0, 0},
}

// phases are what was admitted before, during and after a fault, a second.
type phases struct{ before, during, after float64 }

// TestFaults pulls each plug while all policies are asked for more than they may admit.
func TestFaults(t *testing.T) {
	r := newRig(t, faultsConfiguration)
	r.start()
	for _, f := range faults {
		if !f.always && os.Getenv("WEIR_TEST_ALL") == "" {
			continue
		}
		t.Run(f.name, func(t *testing.T) { r.fault(t, f) })
	}
}

func (r *rig) fault(t *testing.T, f fault) {
	endpoints := []string{"leased-local", "leased-share", "strict-local", "strict-open", "strict-closed"}
	lasts, began := faultBegins+faultLasts+faultSettle+faultAfter, time.Now()
	results := make([]asked, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Add(1)
		go func() {
			defer wg.Done()
			results[i] = asking{endpoint: "/" + e, user: f.name, rates: even(faultAsked / 3), last: lasts, workers: 4}.run(t, began, r.nodes...)
		}()
	}
	time.Sleep(time.Until(began.Add(faultBegins)))
	end := f.begin(r.redis)
	faulty := time.Since(began)
	if !f.momentary {
		time.Sleep(time.Until(began.Add(faultBegins + faultLasts)))
	}
	end()
	mended := time.Since(began)
	wg.Wait()
	for i, e := range endpoints {
		r.judge(t, f, e, &results[i], faulty, mended, lasts)
	}
	r.awaitNodes(3)
}

// judge holds one policy to what it promises in each phase.
func (r *rig) judge(t *testing.T, f fault, endpoint string, all *asked, faulty, mended, lasts time.Duration) {
	t.Helper()
	var before, during, after []admission
	settled := mended + faultSettle
	opened := faulty + 500*time.Millisecond // the first failures, until the breaker opens
	for _, a := range all.admitted {
		switch {
		case a.answered < faulty:
			before = append(before, a)
		case a.asked > opened && a.answered < mended:
			during = append(during, a)
		case a.asked > settled:
			after = append(after, a)
		}
	}
	rate := func(n []admission, d time.Duration) float64 { return float64(len(n)) / d.Seconds() }
	p := phases{rate(before, faulty), rate(during, mended-opened), rate(after, lasts-settled)}
	t.Logf("%-14s admitted a second, of a limit of %.0f: %.0f before, %s during, %.0f from 2 s after it; slowest answer %v",
		endpoint, faultLimit, p.before, duringText(f, p), p.after, all.slowest.Round(100*time.Microsecond))
	for _, err := range all.failed {
		t.Errorf("%s: %v", endpoint, err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("%s: admitted in each quarter of a second: %v; the fault was from %v to %v", endpoint, quarters(all.admitted, lasts), faulty, mended)
		}
	}()
	if got := excess(before, faultLimit); got > 1.1*faultBurst+0.001 {
		t.Errorf("%s: %.1f beyond the rate before the fault", endpoint, got)
	}
	if got := excess(after, faultLimit); got > 1.1*faultBurst+0.001 {
		t.Errorf("%s: %.1f beyond the rate from 2 s after the fault: not shared, or a burst above the bound", endpoint, got)
	}
	if p.after < 0.85*faultLimit {
		t.Errorf("%s: %.0f a second after the fault, of %.0f: limited for stale debt", endpoint, p.after, faultLimit)
	}
	if f.momentary {
		return
	}
	want := onFailure[endpoint]
	least, most := want.least*faultLimit, want.most*faultLimit
	if p.during < least || p.during > most {
		t.Errorf("%s: %.0f a second during the fault, want %.0f to %.0f", endpoint, p.during, least, most)
	}
}

func duringText(f fault, p phases) string {
	if f.momentary {
		return "-"
	}
	return fmt.Sprintf("%.0f", p.during)
}

// quarters counts admissions in each quarter of a second.
func quarters(all []admission, lasts time.Duration) []int {
	n := make([]int, lasts/(250*time.Millisecond)+1)
	for _, a := range all {
		n[min(int(a.answered/(250*time.Millisecond)), len(n)-1)]++
	}
	return n
}
