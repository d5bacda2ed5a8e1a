package netns

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// A ban ends by itself in the kernel: nobody of weir runs when its time is over.
func TestABanEndsByItself(t *testing.T) {
	const lasts = 2 * time.Second
	for _, banned := range []struct{ family, prefix string }{{"IPv4", "192.0.2.0/24"}, {"IPv6", "2001:db8::/64"}} {
		t.Run(banned.family, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach("native", "limit: 1000000, window: 1s")
			frame := r.frame(r.address(banned.family), nil)
			f := &flood{frames: [][]byte{frame}, load: lab.Load{Rate: 2000, Duration: limit}, from: r.A}
			stop := r.background(func(ctx context.Context) error { return f.run(ctx) })
			passes := func() uint64 { return r.counters().Policies["p0"][policy.VerdictPass].Packets }
			drops := func() uint64 { return r.counters().Listed["ban"].Packets }
			r.await("packets pass", func() bool { return passes() > 100 })

			start := time.Now()
			r.mustWeir("ban", banned.prefix, "--for", lasts.String())
			began := time.Now()
			r.await("packets are dropped", func() bool { return drops() > 100 })
			held := passes()
			r.await("a packet passes again", func() bool { return passes() > held })
			ended := time.Now()
			// Between the command's start and its end the ban began. The clock that it is compared with is behind by a tick.
			if least := lasts - time.Since(start) + time.Since(began) - 10*time.Millisecond; ended.Sub(start) < least {
				t.Errorf("the ban ended %v after the command, want %v", ended.Sub(start), lasts)
			}
			if lasted := ended.Sub(began); lasted > lasts+time.Second {
				t.Errorf("the ban lasted %v, want %v", lasted, lasts)
			}
			n := drops()
			r.await("packets pass on", func() bool { return passes() > held+100 })
			if now := drops(); now != n {
				t.Errorf("%d packets were dropped by a ban that was over", now-n)
			}
			stop()
		})
	}
}

// allow beats a ban and deny, and whoever is allowed is not charged; deny and a ban drop before any policy is asked.
func TestTheListsDecideBeforeThePolicies(t *testing.T) {
	for _, family := range []struct {
		name, allow, deny            string
		allowed, denied, banned, all string
	}{
		{"IPv4", "198.51.100.7/32", "198.51.100.0/24", "198.51.100.7", "198.51.100.8", "203.0.113.9", "198.51.100.0/22"},
		{"IPv6", "2001:db8:5::7/128", "2001:db8:5::/48", "2001:db8:5::7", "2001:db8:5::8", "2001:db8:6::9", "2001:db8:4::/46"},
	} {
		t.Run(family.name, func(t *testing.T) {
			const each = 100
			r := newRig(t, lab.PairSpec{})
			r.mustWeir("attach", r.B.Interface, "-c",
				r.configWith("allow: ["+family.allow+"]\ndeny: ["+family.deny+"]", "limit: 1, window: 1h, burst: 10"))
			r.mustWeir("ban", family.banned, "--for", "1h")
			r.mustWeir("ban", family.all, "--for", "1h") // the allowed one as well
			sniffer := r.sniff()
			free := r.address(family.name)
			sources := map[string]netip.Addr{"allow": netip.MustParseAddr(family.allowed), "deny": netip.MustParseAddr(family.denied),
				"ban": netip.MustParseAddr(family.banned), "": free}
			var frames [][]byte
			for _, source := range sources {
				frames = append(frames, r.frame(source, nil))
			}
			r.flood(lab.Load{Rate: 20_000, Count: each * uint64(len(frames))}, frames...)
			arrived := r.arrivals(sniffer, each+10)
			if a, f := from(arrived, sources["allow"]), from(arrived, free); a != each || f != 10 {
				t.Errorf("%d packets of the allowed source and %d of one on no list arrived, want %d and its burst of 10", a, f, each)
			}
			for _, list := range []string{"allow", "deny", "ban"} {
				if n := r.counters().Listed[list].Packets; n != each {
					t.Errorf("%s decided on %d packets, want %d", list, n, each)
				}
			}
			r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: 10, policy.VerdictDrop: each - 10})

			r.mustWeir("unban", family.all)
			r.mustWeir("unban", family.banned)
			r.flood(lab.Load{Rate: 20_000, Count: 5}, r.frame(sources["ban"], nil))
			if n := r.counters().Listed["ban"].Packets; n != each {
				t.Errorf("%d packets were dropped by a ban that was lifted", n-each)
			}
		})
	}
}
