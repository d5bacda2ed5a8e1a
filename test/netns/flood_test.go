package netns

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
)

// flood sends frames in turn as fast as it goes, and remembers when.
type flood struct {
	frames [][]byte
	load   lab.Load
	from   *lab.Host

	injector lab.Injector
	start    time.Time
	stamps   []time.Time // when each batch began to be filled
	end      time.Time   // all were decided on by then
}

// framesPerStamp is the injector's batch.
const framesPerStamp = 64

// inFlight bounds, in batches, how far a frame's arrival may lag behind its sending. Between the two there is
// room for no more than the backlog of generic XDP, 1000 frames per CPU, and for less in a veth's ring.
const inFlight = 2*1000/framesPerStamp + 2

// flood runs the frames to the end, and waits until the program has decided on the last.
func (r *rig) flood(load lab.Load, frames ...[]byte) *flood {
	r.Helper()
	f := &flood{frames: frames, load: load, from: r.A}
	before := seen(r.counters())
	if err := f.run(r.within(limit)); err != nil {
		r.Fatal(err)
	}
	r.awaitSeen(before + f.sent())
	f.end = time.Now()
	return f
}

// awaitSeen waits until the program has decided on n packets, and holds that there are no more.
func (r *rig) awaitSeen(n uint64) {
	r.Helper()
	r.await("every frame is decided on", func() bool { return seen(r.counters()) >= n })
	if got := seen(r.counters()); got != n {
		r.Errorf("the program saw %d frames, %d were sent", got, n)
	}
}

// during floods with a frame while do runs, and a while longer.
func (r *rig) during(frame []byte, do func()) *flood {
	r.Helper()
	f := &flood{frames: [][]byte{frame}, load: lab.Load{Rate: 100_000, Duration: limit}, from: r.A}
	before := seen(r.counters())
	stop := r.background(f.run)
	r.goOn()
	do()
	r.goOn()
	stop()
	r.awaitSeen(before + f.sent())
	f.end = time.Now()
	return f
}

// goOn waits until some more packets of a flood were decided on.
func (r *rig) goOn() {
	r.Helper()
	more := seen(r.counters()) + 5000
	r.await("the flood goes on", func() bool { return seen(r.counters()) >= more })
}

// run sends, and returns when the load is complete or ctx is done.
func (f *flood) run(ctx context.Context) error {
	i := -1
	f.injector = lab.Injector{Host: f.from, Load: f.load, Retry: true, Next: func([]byte) []byte {
		i++
		if i%framesPerStamp == 0 {
			f.stamps = append(f.stamps, time.Now())
		}
		return f.frames[i%len(f.frames)]
	}}
	f.start = time.Now()
	return f.injector.Run(ctx)
}

func (f *flood) sent() uint64 { return f.injector.Sent() }

// most is the largest number of tokens that a bucket may have given during the flood.
func (f *flood) most(rate float64, burst uint64) float64 {
	return float64(burst) + rate*f.end.Sub(f.start).Seconds()
}

// least is the smallest number of tokens that a bucket must have given, had the source taken every one there was.
// A bucket overflows while nobody takes: what it can have lost by pauses of the sender is subtracted.
func (f *flood) least(rate float64, burst uint64) float64 {
	if len(f.stamps) <= 2*inFlight {
		return 0
	}
	fill := time.Duration(float64(burst) / rate * float64(time.Second))
	tokens := float64(burst) + rate*f.stamps[len(f.stamps)-1].Sub(f.stamps[1]).Seconds()
	// Frames that were sent together may arrive apart, but not by more than the sender's own pause: it is out of room
	// while nobody receives.
	for i := inFlight; i < len(f.stamps); i += inFlight {
		if pause := f.stamps[i].Sub(f.stamps[i-inFlight]); pause > fill {
			tokens -= rate * (pause - fill).Seconds()
		}
	}
	return tokens
}

// expectRate holds that a flooding source got burst + rate * t: never more than that and 3 packets, and no less
// than 1 % or 3 packets below. cost is the tokens of one packet.
func (r *rig) expectRate(f *flood, arrived uint64, rate float64, burst, cost uint64) {
	r.Helper()
	most, least := f.most(rate, burst)/float64(cost), f.least(rate, burst)/float64(cost)
	floor := least - math.Max(least/100, 3)
	r.Logf("sent %d in %v, arrived %d, allowed %.1f to %.1f", f.sent(), f.end.Sub(f.start).Round(time.Millisecond), arrived, floor, most)
	if float64(arrived) > most+3 {
		r.Errorf("%d packets arrived, want burst + rate * t = %.1f at most", arrived, most)
	}
	if float64(arrived) < floor {
		r.Errorf("%d packets arrived, want %.1f at least", arrived, floor)
	}
}

// sniff counts what arrives on host B, until the test ends.
func (r *rig) sniff() *lab.Sniffer {
	r.Helper()
	s, err := lab.NewSniffer(r.B)
	if err != nil {
		r.Fatal(err)
	}
	r.background(s.Run)
	return s
}

// background runs something until the test ends, or until stop.
func (r *rig) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.Error(err)
		}
	})
	r.Cleanup(stop)
	return stop
}

// arrivals is what the sniffer counted by frame, once it has counted all that the program let pass. It fails if the
// sniffer missed any.
func (r *rig) arrivals(s *lab.Sniffer, total uint64) map[lab.FrameKey]uint64 {
	r.Helper()
	if err := s.Await(r.within(limit), total); err != nil {
		r.Fatal(err)
	}
	if n := s.Total(); n != total {
		r.Errorf("%d frames arrived, the program passed %d", n, total)
	}
	if n, err := s.Missed(); n > 0 || err != nil {
		r.Errorf("the sniffer missed %d frames: %v", n, err)
	}
	return s.Counts()
}

// from sums the arrivals of a source over all VLANs.
func from(arrivals map[lab.FrameKey]uint64, source netip.Addr) (n uint64) {
	for key, count := range arrivals {
		if key.Source == source {
			n += count
		}
	}
	return n
}

// target is a port of host B where nobody listens, in the family of an address.
func (r *rig) target(like netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(r.B.Address(like), 9)
}

// frame builds a frame from host A to host B, changed by edit.
func (r *rig) frame(source netip.Addr, edit func(*lab.Frame)) []byte {
	r.Helper()
	f := r.A.Frame(r.target(source))
	f.Src = source
	f.DstMAC = strangerMAC
	if edit != nil {
		edit(&f)
	}
	b, err := f.Bytes()
	if err != nil {
		r.Fatal(err)
	}
	return b
}

// strangerMAC is nobody's: what is sent to it passes XDP and the sniffer, and host B's stack throws it away, so that
// a flood costs little behind them and is not answered.
var strangerMAC = []byte{0x02, 0, 0, 0, 0, 0xff}
