package progrun

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// paceMax is CHARGE_PACE_MAX of charge.h: what has to wait longer is dropped.
const paceMax = 2 * time.Second

// paced gives a packet a millisecond.
func paced(name string, burst uint64) policy.Policy {
	p := policy.Policy{Name: name, Scope: policy.ScopePerIP, Limit: 1000, Window: time.Second, Burst: burst, Action: policy.ActionPace}
	p.Match.Direction = policy.DirectionEgress
	return p.WithDefaults()
}

// instants are uptimes in ns at which packets are paced, the last of them around where a bucket's ticks wrap, after 834 days.
var instants = map[string]uint64{
	"an hour after boot":  uint64(time.Hour),
	"while ticks wrap":    1<<56 - uint64(time.Second),
	"after ticks wrapped": 1<<56 + uint64(time.Hour),
}

// What is over the limit departs when its token is there: behind the burst, one token time after the other. What would
// have to wait longer than 2 s is dropped.
func TestPaceSpacesWhatIsOverTheLimit(t *testing.T) {
	const burst, token = 5, time.Millisecond
	held := int(paceMax / token)
	for name, now := range instants {
		t.Run(name, func(t *testing.T) {
			s, clock := loadTCClocked(t, loader.HookTCEgress, paced("p", burst))
			setClocks(t, clock, now)
			frame := s.bytes(udp("192.0.2.1"))
			for i := range burst + held + 10 {
				verdict, out := s.run(frame, skb{})
				want := uint64(0) // at once
				if i >= burst {
					want = now + uint64(i-burst+1)*uint64(token)
				}
				if i >= burst+held {
					if verdict != tcDrop || out.Departure != 0 {
						t.Fatalf("packet %d, beyond 2 s: verdict %d, departure %d; want it dropped", i, verdict, out.Departure)
					}
					continue
				}
				if verdict != tcNext || out.Departure != want {
					t.Fatalf("packet %d: verdict %d, departure %d, want %d to go at %d", i, verdict, out.Departure, tcNext, want)
				}
			}
			s.expectPaced("p", uint64(burst+held), uint64(held), 10)
			setClocks(t, clock, now+uint64(3*token))
			if got := s.passed(5, frame); got != 3 {
				t.Errorf("%d passed 3 ms later, want 3", got)
			}
		})
	}
}

func (p *tcProgram) expectPaced(name string, passed, paced, dropped uint64) {
	p.Helper()
	n := p.counted(name)
	if n[policy.VerdictPass].Packets != passed || p.counters().Paced[name] != paced || n[policy.VerdictDrop].Packets != dropped {
		p.Errorf("%s counted %+v and %d paced, want %d passed, %d of them paced, and %d dropped",
			name, n, p.counters().Paced[name], passed, paced, dropped)
	}
}

// A token takes 333 333.33... ns: nothing departs before its token is there, and nothing a whole ns later.
func TestPaceNeverDepartsEarly(t *testing.T) {
	p := paced("p", 1)
	p.Limit = 3000
	s, clock := loadTCClocked(t, loader.HookTCEgress, p)
	now := uint64(time.Hour)
	setClocks(t, clock, now)
	frame := s.bytes(udp("192.0.2.1"))
	s.run(frame, skb{})
	for i := uint64(1); i <= 3000; i++ {
		_, out := s.run(frame, skb{})
		// The bucket's arithmetic rounds a token to 1/256 ns, which is 1/512 ns or less off for each.
		exact := float64(i) * 1e9 / 3000
		if late := float64(out.Departure-now) - exact; late < -float64(i)/512 || late > 1+float64(i)/512 {
			t.Fatalf("packet %d departs %v ns after it is due", i, late)
		}
	}
}

// The stack has its own idea of when a TCP segment is to leave: the later one holds.
func TestPaceKeepsALaterDeparture(t *testing.T) {
	s, clock := loadTCClocked(t, loader.HookTCEgress, paced("p", 1))
	now := uint64(time.Hour)
	setClocks(t, clock, now)
	frame := s.bytes(udp("192.0.2.1"))
	for i, tt := range []struct{ had, want time.Duration }{
		{0, 0}, // within the burst, and nobody's
		{500 * time.Microsecond, time.Millisecond},
		{5 * time.Millisecond, 5 * time.Millisecond},
		{-time.Hour, 3 * time.Millisecond}, // nobody's
	} {
		var in skb
		if tt.had != 0 {
			in.Departure = now + uint64(tt.had)
		}
		want := uint64(0)
		if tt.want != 0 {
			want = now + uint64(tt.want)
		}
		if _, out := s.run(frame, in); out.Departure != want {
			t.Errorf("packet %d, which had %v: departs %d ns from now, want %v", i, tt.had, out.Departure-now, tt.want)
		}
	}
}

// Packets that are joined take the tokens of all, and leave as one.
func TestPaceJoinedPackets(t *testing.T) {
	s, clock := loadTCClocked(t, loader.HookTCEgress, paced("p", 10))
	now := uint64(time.Hour)
	setClocks(t, clock, now)
	frame, as := s.joined(4)
	for i, want := range []time.Duration{0, 0, 2 * time.Millisecond, 6 * time.Millisecond} {
		if _, out := s.run(frame, as); want != 0 && out.Departure != now+uint64(want) || want == 0 && out.Departure != 0 {
			t.Errorf("of joined packets number %d departs at %d, want %v from %d", i, out.Departure, want, now)
		}
	}
	s.expectPaced("p", 16, 8, 0)
}

// Of several policies the slowest says when; who drops leaves no debt with the others, and nobody counts what it dropped.
func TestPaceBesideOtherPolicies(t *testing.T) {
	slower, faster, strict := paced("slower", 2), paced("faster", 2), slow("strict", 6)
	slower.Limit, slower.Priority, faster.Priority = 500, 2, 1
	shadow := paced("shadow", 1)
	shadow.Limit, shadow.Mode = 1, policy.ModeShadow
	s, clock := loadTCClocked(t, loader.HookTCEgress, slower, faster, strict, shadow)
	now := uint64(time.Hour)
	setClocks(t, clock, now)
	frame := s.bytes(udp("192.0.2.1"))
	for i, want := range []time.Duration{0, 0, 2, 4, 6, 8} {
		verdict, out := s.run(frame, skb{})
		if want != 0 && out.Departure != now+uint64(want*time.Millisecond) || want == 0 && out.Departure != 0 || verdict != tcNext {
			t.Errorf("packet %d: verdict %d, departs at %d, want %d ms from %d", i, verdict, out.Departure, want, now)
		}
	}
	for range 100 {
		if verdict, out := s.run(frame, skb{}); verdict != tcDrop || out.Departure != 0 {
			t.Fatalf("verdict %d, departure %d; want strict to drop it", verdict, out.Departure)
		}
	}
	s.expectPaced("slower", 6, 4, 0)
	s.expectPaced("faster", 6, 4, 0)
	s.expectPaced("strict", 6, 0, 100)
	s.expectPaced("shadow", 3, 2, 0) // the next ones would have to wait longer than 2 s
	if b := s.bucketOf("192.0.2.1"); b.Used != 6 {
		t.Errorf("slower's bucket: %+v, want 6 used: the dropped ones were given back", b)
	}
}

// What alone is larger than the bucket never has its tokens, however slow the limit; the product of both would overflow.
func TestPaceDropsWhatIsLargerThanTheBurst(t *testing.T) {
	p := paced("p", 100)
	p.Unit, p.Limit, p.Window = policy.UnitBytes, 1, 24*time.Hour
	s, clock := loadTCClocked(t, loader.HookTCEgress, p)
	setClocks(t, clock, uint64(time.Hour))
	for size := 40; size < 1500; size += 20 {
		f := udp("192.0.2.1")
		f.Payload = make([]byte, size)
		frame := s.bytes(f)
		if got := s.passed(1, frame); len(frame) > 100 && got != 0 {
			t.Errorf("%d bytes passed, of a burst of 100", len(frame))
		}
	}
	if b := s.bucketOf("192.0.2.1"); b.Used > 100 {
		t.Errorf("bucket %+v, want 100 used at most", b)
	}
}

// Whom the limit does not concern departs when the stack says, as do the packets of a program in which nobody paces.
func TestPaceLeavesOthersAlone(t *testing.T) {
	drops := slow("p", 100)
	for name, p := range map[string]policy.Policy{"within its burst": paced("p", 100), "nobody paces": drops} {
		s, clock := loadTCClocked(t, loader.HookTCEgress, p)
		now := uint64(time.Hour)
		setClocks(t, clock, now)
		for _, had := range []uint64{0, 1, now + uint64(time.Minute)} {
			if verdict, out := s.run(s.bytes(udp("192.0.2.1")), skb{Departure: had}); verdict != tcNext || out.Departure != had {
				t.Errorf("%s: verdict %d, departure %d of %d", name, verdict, out.Departure, had)
			}
		}
	}
}

// What is paced differs by who it goes to, not by who sends it.
func TestPaceIsPerRemoteEnd(t *testing.T) {
	s, clock := loadTCClocked(t, loader.HookTCEgress, paced("p", 1))
	now := uint64(time.Hour)
	setClocks(t, clock, now)
	for _, to := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		f := udp(to)
		s.run(s.bytes(f), skb{})
		if _, out := s.run(s.bytes(f), skb{}); out.Departure != now+uint64(time.Millisecond) {
			t.Errorf("the second packet to %s departs at %d, want a token time after %d", to, out.Departure, now)
		}
	}
}
