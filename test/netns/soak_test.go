package netns

import (
	"os"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// soakTime is how long TestSoak floods: WEIR_SOAK, or long enough to see that it works.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text, ok := os.LookupEnv("WEIR_SOAK")
	if !ok {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("WEIR_SOAK: %v (want a duration, such as 5m)", err)
	}
	return d
}

// For as long as one cares to wait: a flood of invented sources, an aggressor and a good client, while the policies are
// replaced all the time. The aggressor gets burst + rate * t, the good client everything.
func TestSoakUnderReload(t *testing.T) {
	const rate, burst = 1000, 100
	policies := []string{"name: limited, limit: 1000, window: 1s, burst: 100", "name: shadow, limit: 500, window: 1s, mode: shadow"}
	d := soakTime(t)
	r := newRig(t, lab.PairSpec{})
	r.attach("native", policies[0])
	good := r.A.IPv4.Next().Next().Next()
	sink, err := lab.NewUDPSink(r.B, 7, r.A.IPv4, good)
	if err != nil {
		t.Fatal(err)
	}
	r.background(sink.Run)
	forever := lab.Load{Duration: 2 * d}
	spoofed := &lab.Flood{Host: r.stranger(), Target: r.target(good), Payload: 18, Seed: 3, Load: forever}
	forever.Rate = 10 * rate
	over := r.client(r.A.IPv4, forever)
	forever.Rate = withinLimit
	within := r.client(good, forever)

	start := time.Now()
	stops := []func(){r.background(spoofed.Run), r.background(over.Run), r.background(within.Run)}
	reloads := 0
	for ; time.Since(start) < d; reloads++ {
		r.attach("native", policies[:1+reloads%2]...)
	}
	flooded := time.Since(start)
	for _, stop := range stops {
		stop()
	}
	r.awaitSeen(spoofed.Sent() + over.Sent() + within.Sent())
	elapsed := time.Since(start)

	c := r.counters()
	dropped := c.Policies["limited"][policy.VerdictDrop].Packets
	got, most := over.Sent()-dropped, float64(burst)+rate*elapsed.Seconds()
	if err := sink.Await(r.within(limit), got+within.Sent()); err != nil {
		t.Error(err)
	}
	t.Logf("%v, %d reloads, %d forged, aggressor %d of %d (at most %.1f), good client %d of %d, pressure %d, contended %d",
		elapsed.Round(time.Millisecond), reloads, spoofed.Sent(), got, over.Sent(), most, sink.From(good).Packets, within.Sent(), c.Pressure, c.Contended)
	if n := sink.From(r.A.IPv4).Packets; n != got || float64(n) > most+3 {
		t.Errorf("%d of the aggressor's packets arrived, want %d, and %.1f at most", n, got, most)
	}
	// A sender that is kept from running for 100 ms loses tokens.
	if least := 0.95 * rate * flooded.Seconds(); float64(got) < least {
		t.Errorf("%d of the aggressor's packets arrived, want %.1f at least", got, least)
	}
	if n := sink.From(good).Packets; n != within.Sent() {
		t.Errorf("%d of the good client's %d packets arrived", n, within.Sent())
	}
	if c.Pressure != 0 {
		t.Errorf("pressure %d, want none", c.Pressure)
	}
}
