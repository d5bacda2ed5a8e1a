package nodes

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const prefixConfiguration = `
table: {l7_entries: 65536}
server: {http: ""}
redis: {key_prefix: PREFIX, url: "redis://ADDRESS:6379", command_timeout: 200ms}
fallback: {policy_cache: ""}
policies:
  - {name: leased, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/leased]}, on_store_failure: closed}
  - {name: strict, scope: per_user, limit: 150, window: 1s, burst: 150, match: {endpoints: [/strict]}, consistency: strict, on_store_failure: closed}
`

// monitored is what hosts told a Redis to do, by MONITOR, until stop is called.
func (s *store) monitored() (stop func() string) {
	s.t.Helper()
	cmd := exec.Command("redis-cli", "-p", fmt.Sprint(redisPort), "MONITOR")
	var out bytes.Buffer // some 200 bytes for each of a few thousand commands
	cmd.Stdout = &out
	if err := s.host.Do(cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "the monitor", func() error {
		if !strings.Contains(s.do("CLIENT", "LIST"), "cmd=monitor") {
			return fmt.Errorf("no client monitors")
		}
		return nil
	})
	return func() string {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		return out.String()
	}
}

// TestPrefixes runs two clusters on one Redis: two nodes of "one", one of "two", for the same users.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	const limit, burst, lasts = 150.0, 150.0, 4 * time.Second
	r := newRig(t, "")
	prefixes := []string{"one", "one", "two"}
	for i, n := range r.nodes {
		n.configure(strings.NewReplacer("PREFIX", prefixes[i], "ADDRESS", r.redis.host.IPv4.String()).Replace(prefixConfiguration))
	}
	stop := r.redis.monitored()
	for i, n := range r.nodes {
		n.start()
		want := []int{1, 2, 1}[i] // it is started before the next of its cluster
		eventually(t, "the nodes of its own cluster", func() error {
			h, err := n.health()
			if err == nil && (h.Nodes != want || !h.RedisAvailable) {
				err = fmt.Errorf("%+v", h)
			}
			return err
		})
	}
	before, began := r.redis.operations(), time.Now()
	clusters := map[string][]*node{"one": r.nodes[:2], "two": r.nodes[2:]}
	var wg sync.WaitGroup
	var decisions atomic.Int64
	for prefix, nodes := range clusters {
		for _, endpoint := range []string{"/leased", "/strict"} {
			wg.Go(func() {
				all := asking{endpoint: endpoint, user: "alice", rates: even(2 * limit / float64(len(nodes))), last: lasts, workers: 4, random: true}.run(t, began, nodes...)
				decisions.Add(int64(all.total()))
				most := excess(all.admitted, limit)
				used := float64(len(all.admitted)) / (burst + limit*lasts.Seconds())
				t.Logf("%s%s: %d asked, %d admitted, %.3f of limit and burst, %.1f beyond the rate", prefix, endpoint, all.total(), len(all.admitted), used, most)
				for _, err := range all.failed {
					t.Error(err)
				}
				if most > 1.1*burst+0.001 {
					t.Errorf("%s%s: %.1f beyond the rate", prefix, endpoint, most)
				}
				if used < 0.9 {
					t.Errorf("%s%s: only %.2f of its limit was usable: the other cluster uses the rest?", prefix, endpoint, used)
				}
			})
		}
	}
	wg.Wait()
	operations := r.redis.operations() - before
	t.Logf("Redis: %d operations, %.1f per 1000 decisions", operations, 1000*float64(operations)/float64(decisions.Load()))
	r.onlyOwnKeys(stop(), prefixes)
	r.wipe("one")
}

// onlyOwnKeys holds that every key and channel that a node named is of its cluster.
func (r *rig) onlyOwnKeys(monitor string, prefixes []string) {
	r.Helper()
	for key := range strings.FieldsSeq(r.redis.do("KEYS", "*")) {
		if !strings.HasPrefix(key, "one:") && !strings.HasPrefix(key, "two:") {
			r.Errorf("a key of no cluster: %s", key)
		}
	}
	own := make([]int, len(prefixes))
	for lines := bufio.NewScanner(strings.NewReader(monitor)); lines.Scan(); {
		for i, n := range r.nodes {
			if !strings.Contains(lines.Text(), " "+n.IPv4.String()+":") {
				continue
			}
			if strings.Contains(lines.Text(), `"`+prefixes[i]+":") {
				own[i]++
			}
			if other := map[string]string{"one": "two", "two": "one"}[prefixes[i]]; strings.Contains(lines.Text(), other+":") {
				r.Errorf("%s of cluster %s said %.300s", n.name, prefixes[i], lines.Text())
			}
			if strings.Contains(strings.ToUpper(lines.Text()), `"FLUSH`) || strings.Contains(strings.ToUpper(lines.Text()), `"KEYS"`) {
				r.Errorf("%s said %.300s", n.name, lines.Text())
			}
		}
	}
	r.Logf("commands with keys of their own cluster, by node: %v; with others': none", own)
	for i, n := range own {
		if n < 10 {
			r.Errorf("the monitor saw only %d commands of %s", n, r.nodes[i].name)
		}
	}
}

// wipe deletes all that one cluster has: that one finds out, and the other does not.
func (r *rig) wipe(prefix string) {
	r.Helper()
	epochs := func(n *node) float64 { return n.metric("rate_limiter_store_epochs_total") }
	before := []float64{epochs(r.nodes[0]), epochs(r.nodes[1]), epochs(r.nodes[2])}
	r.redis.do("EVAL", `for _, k in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', k) end`, "0", prefix+":*")
	eventually(r.T, "the cluster that lost its data to find out", func() error {
		if a, b := epochs(r.nodes[0]), epochs(r.nodes[1]); a <= before[0] || b <= before[1] {
			return fmt.Errorf("epochs %v, %v", a, b)
		}
		return nil
	})
	if now := epochs(r.nodes[2]); now != before[2] || before[2] == 0 {
		r.Errorf("the other cluster has seen %v epochs, %v before", now, before[2])
	}
}
