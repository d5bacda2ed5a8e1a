package nodes

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
)

// TestSentinel kills the master that sentinels watch: they make another one of its replica, with which nodes share again.
func TestSentinel(t *testing.T) {
	t.Parallel()
	const begins, lasts = 2 * time.Second, 10 * time.Second
	r := newRig(t, "")
	s := redistest.StartSentinel(t, redistest.SentinelOptions{
		Master: r.inGateway(7001), Replica: r.inGateway(7002), DownAfter: time.Second,
		Sentinels: [3]redistest.Options{r.inGateway(7011), r.inGateway(7012), r.inGateway(7013)},
	})
	r.where(fmt.Sprintf("sentinel: {master: %s, addresses: [%s]}", redistest.MasterName, strings.Join(quoted(s.Addresses), ", ")))
	r.start()
	loads := []*keyLoad{{endpoint: "/leased"}, {endpoint: "/strict"}, {endpoint: "/closed"}}
	before, began := scripts(t, s.Master, s.Replica), time.Now()
	var all sync.WaitGroup
	for _, l := range loads {
		all.Go(func() {
			l.asked = asking{endpoint: l.endpoint, user: "alice", rates: even(keyAsked / 3), last: lasts, workers: 4, random: true}.run(t, began, r.nodes...)
		})
	}
	time.Sleep(time.Until(began.Add(begins)))
	operations := scripts(t, s.Master) - before
	killed := time.Since(began)
	redistest.Must(t, s.Master.Kill())
	eventually(t, "the replica to become a master", func() error {
		role, err := s.Replica.CLI("ROLE")
		if err == nil && !strings.HasPrefix(role, "master") {
			err = fmt.Errorf("it is %s", strings.Fields(role)[0])
		}
		return err
	})
	there := time.Since(began)
	all.Wait()
	operations += scripts(t, s.Replica)
	back, decisions := there+2*time.Second, 0
	if lasts-back < 2*time.Second {
		t.Fatalf("the failover took %v: too little is left to see what came of it", there-killed)
	}
	t.Logf("a new master %v after the kill", (there - killed).Round(time.Millisecond))
	for _, l := range loads {
		decisions += l.total()
		judgeFailover(t, l, killed, there, back, lasts)
	}
	t.Logf("Redis: %d operations, %.1f per 1000 decisions", operations, 1000*float64(operations)/float64(decisions))
}

func judgeFailover(t *testing.T, l *keyLoad, killed, there, back, lasts time.Duration) {
	t.Helper()
	// A second is enough to see that the store is away: a master that is killed refuses at once.
	away := float64(len(between(l.admitted, killed+time.Second, there))) / (there - killed - time.Second).Seconds()
	after := between(l.admitted, back, lasts)
	rate := float64(len(after)) / (lasts - back).Seconds()
	first, last := excess(between(l.admitted, 0, killed), keyLimit), excess(after, keyLimit)
	t.Logf("%-7s of a limit of %.0f/s: %.0f/s without a master, %.0f/s from 2 s after there is one; %d admitted of %.0f allowed if shared; beyond the rate %.1f before, %.1f after, of a burst of %.0f; slowest %v",
		l.endpoint, keyLimit, away, rate, len(l.admitted), 1.1*keyBurst+keyLimit*lasts.Seconds(), first, last, keyBurst, l.slowest)
	for _, err := range l.failed {
		t.Errorf("%s: %v", l.endpoint, err)
	}
	for _, got := range []float64{first, last} {
		if got > 1.1*keyBurst+0.001 {
			t.Errorf("%s: %.1f beyond the rate", l.endpoint, got)
		}
	}
	if rate < 0.85*keyLimit {
		t.Errorf("%s: only %.0f/s of %.0f after the failover", l.endpoint, rate, keyLimit)
	}
	if l.slowest > slowestAnswer {
		t.Errorf("%s: an answer took %v", l.endpoint, l.slowest)
	}
	if l.endpoint == "/closed" && away > 0 {
		t.Errorf("%s admits %.0f/s without a master", l.endpoint, away)
	}
	// Each its own limit and burst: so much is not asked for in that time, some third of a second, in which chance counts.
	if l.endpoint != "/closed" && away < 2*keyLimit {
		t.Errorf("%s: %.0f/s without a master, want all of some %.0f", l.endpoint, away, keyAsked)
	}
}

func quoted(all []string) (q []string) {
	for _, s := range all {
		q = append(q, fmt.Sprintf("%q", s))
	}
	return q
}
