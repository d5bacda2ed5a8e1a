package progrun

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/bpfclock"
)

// Verdicts of the TC hooks.
const (
	tcNext = -1
	tcDrop = 2
)

// tcHooks are where the same packets have to get the same verdicts, mirrored on their way out.
var tcHooks = []loader.Hook{loader.HookTCIngress, loader.HookTCEgress}

// tcProgram is the program of a TC hook.
type tcProgram struct {
	*testing.T
	*loader.Standalone
	hook loader.Hook
}

func loadTC(t *testing.T, hook loader.Hook, entries int, policies ...policy.Policy) *tcProgram {
	t.Helper()
	return loadTCWith(t, loader.StandaloneOptions{Hook: hook, Policies: policies, TableEntries: entries})
}

func loadTCWith(t *testing.T, o loader.StandaloneOptions) *tcProgram {
	t.Helper()
	testutil.RequireRoot(t)
	s, err := loader.LoadStandalone(o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &tcProgram{T: t, Standalone: s, hook: o.Hook}
}

// loadTCClocked loads it with a clock that the test sets.
func loadTCClocked(t *testing.T, hook loader.Hook, policies ...policy.Policy) (*tcProgram, *bpfclock.Clock) {
	t.Helper()
	s, clock := loadClocked(t, loader.StandaloneOptions{Hook: hook, Policies: policies, TableEntries: 1024})
	return &tcProgram{T: t, Standalone: s, hook: hook}, clock
}

// setClocks sets all clocks to an uptime in ns.
func setClocks(t *testing.T, clock *bpfclock.Clock, now uint64) {
	t.Helper()
	jiffy, err := bpfclock.Jiffy()
	if err != nil {
		t.Fatal(err)
	}
	clock.Set(bpfclock.Reading{Exact: now, Coarse: now, Jiffies: now / uint64(jiffy)})
}

// skb is what a test run may set of struct __sk_buff (linux/bpf.h), and read of it afterwards.
type skb struct {
	Departure uint64 // tstamp: ns of the monotonic clock; 0: at once
	WireLen   uint32
	Segments  uint32
	Size      uint32 // gso_size: of a segment's payload
}

// The offsets of those fields, and the size of the structure.
const (
	skbDeparture = 152
	skbWireLen   = 160
	skbSegments  = 164
	skbGSOSize   = 176
	skbSize      = 192
)

// run sends a frame through the program, as the skb that the stack makes of it.
func (p *tcProgram) run(frame []byte, in skb) (verdict int32, out skb) {
	p.Helper()
	ctx, after := make([]byte, skbSize), make([]byte, skbSize)
	order := binary.NativeEndian
	order.PutUint64(ctx[skbDeparture:], in.Departure)
	order.PutUint32(ctx[skbWireLen:], in.WireLen)
	order.PutUint32(ctx[skbSegments:], in.Segments)
	order.PutUint32(ctx[skbGSOSize:], in.Size)
	v, err := p.Program().Run(&ebpf.RunOptions{Data: frame, Context: ctx, ContextOut: after})
	if err != nil {
		p.Fatal(err)
	}
	if v := int32(v); v != tcNext && v != tcDrop {
		p.Fatalf("verdict %d, want %d or %d", v, tcNext, tcDrop)
	}
	return int32(v), skb{
		order.Uint64(after[skbDeparture:]), order.Uint32(after[skbWireLen:]), order.Uint32(after[skbSegments:]), order.Uint32(after[skbGSOSize:]),
	}
}

// passed sends a frame n times and tells how many of them passed.
func (p *tcProgram) passed(n int, frame []byte) (count int) {
	p.Helper()
	return p.passedAs(n, frame, skb{})
}

func (p *tcProgram) passedAs(n int, frame []byte, as skb) (count int) {
	p.Helper()
	for range n {
		if verdict, _ := p.run(frame, as); verdict == tcNext {
			count++
		}
	}
	return count
}

// bytes is a frame that comes from a remote host on ingress, and on egress the one that answers it: the ends of both are the
// same to a policy.
func (p *tcProgram) bytes(f lab.Frame) []byte {
	p.Helper()
	if p.hook == loader.HookTCEgress {
		f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
	}
	return bytesOf(p.T, f)
}

func (p *tcProgram) counted(name string) map[policy.Verdict]loader.Count {
	p.Helper()
	return p.counters().Policies[name]
}

func (p *tcProgram) counters() loader.Counters {
	p.Helper()
	return counters(p.T, p.Standalone)
}

func (p *tcProgram) bucketOf(source string) loader.BucketState {
	p.Helper()
	return bucketOf(p.T, p.Standalone, netip.MustParseAddr(source))
}

// onTCHooks runs a test at both hooks.
func onTCHooks(t *testing.T, test func(t *testing.T, hook loader.Hook)) {
	t.Helper()
	for _, hook := range tcHooks {
		t.Run(string(hook), func(t *testing.T) { test(t, hook) })
	}
}
