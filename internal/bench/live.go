package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// liveScenario is one row of live frames.
type liveScenario struct {
	sources uint64
	// strangers tells that no limiter has ever seen them when a turn begins. The firewalls, which have no way to be told
	// so, and would admit them all, do not take part.
	strangers bool
	// What weir has to reach: its speed as a part of a bare drop's, and as a multiple of the firewall's limiters.
	overBare, overFirewall float64
}

// Of many sources that are known, each is admitted ten times a second, so that the most of a frame's cost is what the host
// then does with it: a bare drop does not tell what that is, and is held against strangers.
func liveScenarios(many uint64) []liveScenario {
	return []liveScenario{
		{sources: 1, overBare: 0.92, overFirewall: 1.7},
		{sources: many, strangers: true, overBare: 0.70},
		{sources: many, overFirewall: 2.0},
		{sources: flood, overBare: 0.65, overFirewall: 2.0},
	}
}

func (s liveScenario) String() string {
	if s.strangers {
		return Sources(s.sources) + ", strangers"
	}
	return Sources(s.sources)
}

// runLive measures live frames into weir and into the limiters that a host has already.
func (r *runner) runLive(ctx context.Context) error {
	if err := features.HaveProgramHelper(ebpf.XDP, asm.FnXdpGetBuffLen); errors.Is(err, ebpf.ErrNotSupported) {
		r.leaveOut("live frames", "they need Linux 5.18, which brought that BPF helper as well: "+err.Error())
		return nil
	} else if err != nil {
		return fmt.Errorf("probe the kernel for live frames: %w", err)
	}
	for _, s := range liveScenarios(r.many) {
		c, err := r.liveContest(ctx, s)
		if err != nil {
			return errors.Join(err, c.Close())
		}
		if err := r.hold(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// liveContest is to be closed even on an error.
func (r *runner) liveContest(ctx context.Context, s liveScenario) (*contest, error) {
	c := &contest{section: sectionLive, traffic: s.String(), comparisons: []comparison{
		speedRatio(nameWeir, nameBare, s.overBare),
		speedRatio(nameWeir, nameNftables, s.overFirewall),
		speedRatio(nameWeir, nameHashlimit, s.overFirewall),
	}}
	cpus, err := lastCPUs(1)
	if err != nil {
		return c, err
	}
	add := func(title string, attach attacher) error {
		w, err := newWire(ctx, title, s.sources, cpus[0], attach)
		if errors.Is(err, ErrNoFirewall) {
			r.leaveOut(title, err.Error())
			return nil
		}
		if err == nil {
			r.prepare(w, s)
		}
		return c.add(w, err)
	}
	if err := add(nameBare, newDropper); err != nil {
		return c, err
	}
	if err := r.addWeir(add); err != nil {
		return c, err
	}
	if s.strangers {
		return c, nil
	}
	for _, rules := range []ruleset{nftables(r.setEntries), hashlimit(int(r.many), r.setEntries)} {
		err := add(rules.name, func(h *lab.Host, s *sender) (limiter, error) { return newFirewall(h, s, rules) })
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func (r *runner) addWeir(add func(string, attacher) error) error {
	return add(nameWeir, func(h *lab.Host, s *sender) (limiter, error) {
		w, err := newWeir([]policy.Policy{r.live}, r.entries)
		if err != nil {
			return nil, err
		}
		return newWeirLimiter(h, s, w)
	})
}

// prepare says what the wire's limiter needs until it is in the state that the row is about, and what it may admit then.
func (r *runner) prepare(w *wire, s liveScenario) {
	w.size = r.Packets
	sources := s.sources
	switch {
	case w.title == nameBare:
		w.leadIn = stampEvery
	case s.strangers:
		r.prepareStrangers(w, sources)
	case sources == flood:
		w.leadIn = 2 * r.setEntries // more than the firewall's tables hold, and than weir admits strangers in a second
		if n := r.live.NewSources; w.title == nameWeir && n != nil {
			perSecond := float64(n.Limit) / n.Window.Seconds()
			w.admits = admission{burst: float64(n.Limit), rate: perSecond}
		}
	default:
		// Nearly every source has then spent the tokens that it got while it was the others' turn. A turn of the slower ones would
		// otherwise last so long that the kernel takes the CPU away from it (see onEach).
		w.leadIn = 8 * int(sources)
		w.admits = admission{burst: float64(sources) * tightBurst, rate: float64(sources) * tightLimit, least: true}
		if w.title == nameWeir {
			r.prepareWeir(w, sources)
		}
	}
}

// prepareStrangers lets weir forget whom it knows. A turn begins with as many strangers as it admits at once, and goes on until
// those have spent their bursts: what is measured is the flood that they came with.
func (r *runner) prepareStrangers(w *wire, sources uint64) {
	if x, ok := w.limiter.(*hooked); ok && x.weir != nil {
		w.forget = x.weir.Table().Clear
	}
	if n := r.live.NewSources; n != nil {
		w.leadIn = 8 * int(sources)
		w.admits = admission{burst: float64(n.Limit) * tightBurst, rate: float64(n.Limit) * (tightBurst + tightLimit) / n.Window.Seconds()}
	}
}

// prepareWeir lets weir get to know the sources, so that none of them is a stranger any more.
func (r *runner) prepareWeir(w *wire, sources uint64) {
	w.leadIn = 12 * int(sources)
	if n := r.live.NewSources; n != nil {
		w.learn = time.Duration(1.3 * float64(sources) / float64(n.Limit) * float64(n.Window))
	}
}
