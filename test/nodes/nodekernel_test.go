package nodes

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
)

// stream sends datagrams of one source to all nodes for as long as a test wants to know how many of them arrive.
type stream struct {
	r      *rig
	source netip.Addr
	sinks  []*lab.UDPSink
	began  time.Time
}

// stream begins one, which ends by itself and with the test.
func (r *rig) stream(source netip.Addr, rate float64, lasts time.Duration) *stream {
	r.Helper()
	s := &stream{r: r, source: source}
	g, ctx := errgroup.WithContext(r.Context())
	for _, n := range r.nodes {
		sink, err := lab.NewUDPSink(n.Host, floodPort, source)
		if err != nil {
			r.Fatal(err)
		}
		s.sinks = append(s.sinks, sink)
		g.Go(func() error { return sink.Run(ctx) })
		frame := r.lab.Gateway().Frame(netip.AddrPortFrom(n.IPv4, floodPort))
		frame.Src = source
		bytes, err := frame.Bytes()
		if err != nil {
			r.Fatal(err)
		}
		g.Go(func() error {
			return (&lab.Injector{Host: r.lab.Gateway(), Next: lab.Cycle(bytes), Load: lab.Load{Rate: rate, Duration: lasts}}).Run(ctx)
		})
	}
	r.Cleanup(sync.OnceFunc(func() { // the test's context is done by now
		if err := g.Wait(); err != nil && r.Context().Err() == nil {
			r.Error(err)
		}
	}))
	s.began = time.Now()
	return s
}

// arrivals are how many datagrams came to each node, until some time.
type arrivals struct {
	nodes [3]float64
	at    time.Duration
}

// count counts them when a time has come, since the stream began.
func (s *stream) count(at time.Duration) (a arrivals) {
	time.Sleep(time.Until(s.began.Add(at)))
	for i, sink := range s.sinks {
		a.nodes[i] = float64(sink.From(s.source).Packets)
	}
	a.at = time.Since(s.began)
	return a
}

// perSecond is how many came since, to the first node and to the others.
func (a arrivals) perSecond(since arrivals) (first, others float64) {
	d := (a.at - since.at).Seconds()
	return (a.nodes[0] - since.nodes[0]) / d, (a.nodes[1] + a.nodes[2] - since.nodes[1] - since.nodes[2]) / d
}

// TestKernelNodeFaults loses a node's daemon, whose kernel goes on: it limits by what it knows, and the others do by what
// they know, until it is back.
func TestKernelNodeFaults(t *testing.T) {
	const (
		limit  = 2000.0
		asked  = 5 * limit // of all nodes
		begins = 2 * time.Second
		settle = 2 * time.Second // after the daemon is back
		after  = 2 * time.Second
	)
	t.Parallel()
	for _, f := range []struct {
		name  string
		begin func(*node) (end func())
	}{
		{"paused", func(n *node) func() {
			n.signal(unix.SIGSTOP)
			return func() { n.signal(unix.SIGCONT) }
		}},
		{"killed", func(n *node) func() { n.kill(); return n.start }},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kernelConfiguration)
			r.start()
			before := r.redis.operations()
			s := r.stream(netip.MustParseAddr("192.0.2.79"), asked/3, begins+nodeFaultLasts()+settle+after+5*time.Second)
			warm := s.count(begins / 2)
			first, others := s.count(begins).perSecond(warm)
			t.Logf("all well: the first node %.0f/s, the others %.0f/s, of a limit of %.0f", first, others, limit)
			if all := first + others; all < 0.9*limit || all > 1.1*limit {
				t.Errorf("%.0f/s before the fault", all)
			}
			end := f.begin(r.nodes[0])
			found := s.count(begins + nodeFaultFound)
			first, others = s.count(begins + nodeFaultLasts()).perSecond(found)
			t.Logf("%s: its kernel %.0f/s by itself, the others %.0f/s", f.name, first, others)
			// Nobody tells its kernel anything, so that its own limit is all that it knows. The others share theirs.
			for who, got := range map[string]float64{"its kernel": first, "the others": others} {
				if got < 0.85*limit || got > 1.1*limit {
					t.Errorf("%s: %s let %.0f/s pass", f.name, who, got)
				}
			}
			end()
			back := s.count(time.Since(s.began) + settle)
			last := s.count(back.at + after)
			first, others = last.perSecond(back)
			packets := 0.0
			for _, n := range last.nodes {
				packets += n
			}
			operations := r.redis.operations() - before
			t.Logf("back: the first node %.0f/s, the others %.0f/s; in all %.0f admitted of about %.0f sent; Redis: %d operations, %.1f per 1000 packets",
				first, others, packets, asked*last.at.Seconds(), operations, 1000*float64(operations)/(asked*last.at.Seconds()))
			if all := first + others; all < 0.9*limit || all > 1.1*limit {
				t.Errorf("%.0f/s from 2 s after it is back: not shared again", all)
			}
			// Nothing shares fairly: a fifth of the limit is for all nodes alike, the rest for who used it lately.
			if first < limit/20 {
				t.Errorf("the node that was lost lets %.0f/s pass when it is back", first)
			}
		})
	}
}
