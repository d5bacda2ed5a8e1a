package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/liveflood"
)

// The strangers that a second may bring, and what a client may.
const (
	strangerCap = 1000
	clientRate  = 1000
	clientBurst = 200
)

// While somebody floods from invented sources as fast as this machine can (2 M packets a second where it has the time),
// those that were seen before lose nothing, and all strangers together get no more than new_sources says.
func TestAFloodOfStrangersCostsClientsNothing(t *testing.T) {
	testutil.SkipIfKernelBelow(t, 5, 18, "BPF_F_TEST_XDP_LIVE_FRAMES")
	cpus := allowedCPUs(t)
	r := newRig(t, lab.PairSpec{Queues: 2})
	r.attach("native", fmt.Sprintf("limit: %d, window: 1s, burst: %d, new_sources: {limit: %d, window: 1s}", clientRate, clientBurst, strangerCap))
	clients := r.startClients(5)
	r.await("every client was seen", func() bool { return clients.seen(20) })

	flood, err := liveflood.New(r.A, r.frame(r.A.IPv4, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	before, start := r.counters(), time.Now()
	for time.Since(start) < 3*time.Second {
		if err := flood.Send(cpus[len(cpus)-1], 1<<18); err != nil {
			t.Fatal(err)
		}
	}
	flooded := time.Since(start)
	clients.stop()
	after, elapsed := r.counters(), time.Since(start)
	clients.expectAll()

	p0 := after.Policies["p0"]
	arrived := seen(after) - seen(before)
	strangers := p0[policy.VerdictPass].Packets - clients.sent()
	lease := twinRate(t, strangerCap, strangerCap).Lease
	most := strangerCap + strangerCap*elapsed.Seconds() + float64(len(cpus))*float64(lease) + 3
	t.Logf("%d packets in %v, %.2f M a second; %d strangers admitted (at most %.1f), %d refused; clients %d", arrived,
		flooded.Round(time.Millisecond), float64(arrived)/flooded.Seconds()/1e6, strangers, most, after.Strangers["p0"], clients.sent())
	if float64(strangers) > most {
		t.Errorf("%d strangers were admitted, want %.1f at most", strangers, most)
	}
	if least := strangerCap * flooded.Seconds() * 0.9; float64(strangers) < least {
		t.Errorf("%d strangers were admitted, want %.1f at least", strangers, least)
	}
	if dropped := p0[policy.VerdictDrop].Packets; dropped != after.Strangers["p0"] {
		t.Errorf("%d packets were dropped, %d of them strangers': want no other", dropped, after.Strangers["p0"])
	}
	if rate := float64(arrived) / flooded.Seconds(); rate < 200_000 {
		t.Errorf("the flood was %.0f packets a second: this test tested little", rate)
	}
	if after.Pressure > 0 {
		t.Errorf("pressure %d, want none", after.Pressure)
	}
}

// clients keep to their limit.
type clients struct {
	r         *rig
	sink      *lab.UDPSink
	addresses []netip.Addr
	senders   []*lab.Injector
	stops     []func()
}

func (r *rig) startClients(n int) *clients {
	r.Helper()
	c := &clients{r: r}
	for a := r.A.IPv4.Next().Next(); len(c.addresses) < n; a = a.Next() {
		c.addresses = append(c.addresses, a)
	}
	var err error
	if c.sink, err = lab.NewUDPSink(r.B, 7, c.addresses...); err != nil {
		r.Fatal(err)
	}
	r.background(c.sink.Run)
	for _, a := range c.addresses {
		sender := r.client(a, lab.Load{Rate: withinLimit, Duration: limit})
		c.senders = append(c.senders, sender)
		c.stops = append(c.stops, r.background(sender.Run))
	}
	return c
}

// seen tells whether n packets of every client arrived.
func (c *clients) seen(n uint64) bool {
	for _, a := range c.addresses {
		if c.sink.From(a).Packets < n {
			return false
		}
	}
	return true
}

func (c *clients) stop() {
	for _, stop := range c.stops {
		stop()
	}
}

func (c *clients) sent() (n uint64) {
	for _, s := range c.senders {
		n += s.Sent()
	}
	return n
}

// expectAll holds that every packet of every client arrived.
func (c *clients) expectAll() {
	c.r.Helper()
	if err := c.sink.Await(c.r.within(limit), c.sent()); err != nil {
		c.r.Error(err)
	}
	for i, a := range c.addresses {
		if got, sent := c.sink.From(a).Packets, c.senders[i].Sent(); got != sent {
			c.r.Errorf("%d of the %d packets of client %v arrived", got, sent, a)
		}
	}
}

// A botnet of one network, every member within its own limit: no limit for addresses sees it, one for networks holds it. Who
// is of another network loses nothing.
func TestALimitForNetworksHoldsABotnet(t *testing.T) {
	const members, rate, burst = 250, 200, 200 // of the network
	address := "name: address, limit: 10, window: 1s, burst: 10, priority: 1"
	network := fmt.Sprintf("name: network, limit: %d, window: 1s, burst: %d, ipv4_prefix: 24, ipv6_prefix: 48", rate, burst)
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			var frames [][]byte
			for i := range members {
				frames = append(frames, r.frame(member(family, 100, i), nil))
			}
			load := lab.Load{Rate: 5 * members, Duration: 2 * time.Second} // each 5 a second of its 10

			r.attach("native", address)
			f := r.flood(load, frames...)
			r.expectCounts("address", map[policy.Verdict]uint64{policy.VerdictPass: f.sent()})

			r.attach("native", address, network)
			before := r.counters()
			sniffer := r.sniff()
			other := member(family, 101, 1)
			f = r.flood(load, append(frames, r.frame(other, nil))...)
			after := r.counters()
			passed := after.Policies["network"][policy.VerdictPass].Packets
			arrivals := r.arrivals(sniffer, passed)
			free := from(arrivals, other)
			r.expectRate(f, passed-free, rate, burst, 1)
			if least := 0.9 * (burst + rate*load.Duration.Seconds()); float64(passed-free) < least {
				t.Errorf("%d packets of the botnet arrived, want %.0f at least", passed-free, least)
			}
			if sent := f.sent() / (members + 1); free < sent {
				t.Errorf("%d packets of the other network arrived, want all %d", free, sent)
			}
			// The address's limit denied nobody: what the network's denied was given back.
			if n := dropped(after, "address") - dropped(before, "address"); n != 0 {
				t.Errorf("the limit for addresses dropped %d packets of sources within it", n)
			}
			if n := dropped(after, "network"); n != f.sent()-passed {
				t.Errorf("the limit for networks dropped %d packets, want %d", n, f.sent()-passed)
			}
		})
	}
}

// member is one host of a network: a /24, or a /48 in which each has a /64.
func member(family string, network byte, i int) netip.Addr {
	if family == "IPv4" {
		return netip.AddrFrom4([4]byte{198, 51, network, byte(1 + i)})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, network, 0, byte(1 + i), 15: 1})
}

func dropped(c loader.Counters, name string) uint64 {
	return c.Policies[name][policy.VerdictDrop].Packets
}
