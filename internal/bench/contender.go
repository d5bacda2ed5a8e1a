package bench

import (
	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// tally is how many packets a program passed and dropped since it was loaded.
type tally map[policy.Verdict]uint64

// contender is a loaded program to measure.
type contender interface {
	program() *ebpf.Program // nil: the driver's own that only drops
	tally() (tally, error)  // nil: the program counts nothing
	Close() error
}

var (
	_ contender = bare{}
	_ contender = (*weir)(nil)
	_ contender = (*lru)(nil)
)

// bare is the floor: a packet that is dropped unseen.
type bare struct{}

func (bare) program() *ebpf.Program { return nil }
func (bare) tally() (tally, error)  { return nil, nil }
func (bare) Close() error           { return nil }

// weir is the shipped program.
type weir struct{ *loader.Standalone }

func newWeir(policies []policy.Policy, entries int) (*weir, error) {
	s, err := loader.LoadStandalone(loader.StandaloneOptions{Policies: policies, TableEntries: entries})
	if err != nil {
		return nil, err
	}
	return &weir{s}, nil
}

func (w *weir) program() *ebpf.Program { return w.Program() }

// tally takes the passes from the policy that counted most, since all that a packet is within count it, and a drop from
// that which dropped.
func (w *weir) tally() (tally, error) {
	c, err := w.Counters()
	if err != nil {
		return nil, err
	}
	t := tally{}
	for _, n := range c.Policies {
		t[policy.VerdictPass] = max(t[policy.VerdictPass], n[policy.VerdictPass].Packets)
		t[policy.VerdictDrop] += n[policy.VerdictDrop].Packets
	}
	return t, nil
}

// matching is how many policies counted anything at all.
func (w *weir) matching() (int, error) {
	c, err := w.Counters()
	n := 0
	for _, count := range c.Policies {
		if count[policy.VerdictPass].Packets+count[policy.VerdictDrop].Packets > 0 {
			n++
		}
	}
	return n, err
}
