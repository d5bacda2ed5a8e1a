package nodes

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
)

const (
	// patience bounds whatever a test waits for, far above what it takes.
	patience  = 30 * time.Second
	redisPort = 6379 // in a namespace of its own
	floodPort = 9
)

// rig is three hosts with a daemon each, and a fourth that has Redis and sends packets.
type rig struct {
	*testing.T
	lab    *lab.Lab
	nodes  []*node
	redis  *store
	binary string
}

// newRig builds the networks and Redis. The configuration's REDIS and NODE are filled in for each node.
func newRig(t *testing.T, configuration string) *rig {
	t.Helper()
	testutil.RequireRoot(t)
	names := []string{"n1", "n2", "n3"}
	l, err := lab.New(t.Context(), lab.Topology{Clients: names})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	binary, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, lab: l, binary: binary}
	r.redis = newStore(t, l.Gateway())
	for _, name := range names {
		text := strings.NewReplacer("REDIS", r.redis.url(), "NODE", name).Replace(configuration)
		r.nodes = append(r.nodes, newNode(t, binary, l.Client(name), text))
	}
	return r
}

// start starts all daemons, and waits until they know one another.
func (r *rig) start() {
	r.Helper()
	for _, n := range r.nodes {
		n.start()
	}
	r.awaitNodes(len(r.nodes))
}

// awaitNodes waits until every daemon that runs knows of so many.
func (r *rig) awaitNodes(want int) {
	r.Helper()
	for _, n := range r.nodes {
		if n.running() {
			eventually(r.T, fmt.Sprintf("%s to know %d nodes", n.name, want), func() error {
				h, err := n.health()
				if err == nil && (h.Nodes != want || !h.RedisAvailable) {
					err = fmt.Errorf("%+v", h)
				}
				return err
			})
		}
	}
}

// eventually waits until check has no objection.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

// spray sends datagrams of one source to all nodes, each at a rate, and counts what gets to their applications: in
// steps, one count of all nodes for each.
func (r *rig) spray(source netip.Addr, rate float64, step time.Duration, steps int) (arrived []uint64, sent uint64) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var sinks []*lab.UDPSink
	var injectors []*lab.Injector
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range r.nodes {
		sink, err := lab.NewUDPSink(n.Host, floodPort, source)
		if err != nil {
			r.Fatal(err)
		}
		sinks = append(sinks, sink)
		g.Go(func() error { return sink.Run(ctx) })
		frame := r.lab.Gateway().Frame(netip.AddrPortFrom(n.IPv4, floodPort))
		frame.Src = source
		bytes, err := frame.Bytes()
		if err != nil {
			r.Fatal(err)
		}
		injectors = append(injectors, &lab.Injector{
			Host: r.lab.Gateway(), Next: lab.Cycle(bytes), Load: lab.Load{Rate: rate, Duration: time.Duration(steps) * step},
		})
	}
	var senders errgroup.Group
	for _, i := range injectors {
		senders.Go(func() error { return i.Run(ctx) })
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	for range steps {
		<-tick.C
		var total uint64
		for _, s := range sinks {
			total += s.From(source).Packets
		}
		arrived = append(arrived, total)
	}
	if err := senders.Wait(); err != nil {
		r.Fatal(err)
	}
	cancel()
	if err := g.Wait(); err != nil {
		r.Fatal(err)
	}
	for _, i := range injectors {
		sent += i.Sent()
	}
	return arrived, sent
}

// flood sends datagrams of forged sources to all nodes, together at a rate, and tells how many were sent.
func (r *rig) flood(rate float64, lasts time.Duration) (sent uint64) {
	r.Helper()
	var all []*lab.Flood
	var g errgroup.Group
	for i, n := range r.nodes {
		f := &lab.Flood{
			Host: r.lab.Gateway(), Target: netip.AddrPortFrom(n.IPv4, floodPort), Seed: uint64(i),
			Load: lab.Load{Rate: rate / float64(len(r.nodes)), Duration: lasts},
		}
		all = append(all, f)
		g.Go(func() error { return f.Run(r.Context()) })
	}
	if err := g.Wait(); err != nil {
		r.Fatal(err)
	}
	for _, f := range all {
		sent += f.Sent()
	}
	return sent
}
