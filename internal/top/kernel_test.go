package top

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/loader"
)

func TestKernelCounts(t *testing.T) {
	one := func(passed, dropped uint64) []loader.Attachment {
		a := attachment(passed, dropped)
		a.Policies = a.Policies[:1]
		return []loader.Attachment{*a}
	}
	two := func(passed, dropped uint64, change func([]loader.LoadedPolicy)) []loader.Attachment {
		a := attachment(passed, dropped)
		if change != nil {
			change(a.Policies)
		}
		return []loader.Attachment{*a}
	}
	narrow := func(which ...int) func([]loader.LoadedPolicy) {
		return func(policies []loader.LoadedPolicy) {
			for _, i := range which {
				policies[i].Match.Protocol = "udp"
			}
		}
	}
	replacing := func(policies []loader.LoadedPolicy) {
		policies[1].Match.Protocol, policies[1].Replaces = "udp", []string{"per-client"}
	}
	listed := func(all []loader.Attachment, allow, deny, ban uint64) []loader.Attachment {
		all[0].Counters.Listed = map[string]loader.Count{"allow": {Packets: allow}, "deny": {Packets: deny}, "ban": {Packets: ban}}
		return all
	}
	type reading struct {
		at  int // seconds
		all []loader.Attachment
	}
	rate := func(n float64) *float64 { return &n }
	for _, c := range []struct {
		name     string
		readings []reading
		since    time.Duration
		want     *Counted
	}{
		{"nothing", nil, 0, nil},
		{"once", []reading{{1, one(5, 5)}}, 0, nil},
		{"all of it", []reading{{1, one(5, 5)}, {2, one(10, 105)}, {3, one(15, 205)}}, 0, &Counted{rate(5), 100}},
		{"the last second", []reading{{1, one(5, 5)}, {2, one(10, 105)}, {3, one(110, 1105)}}, 2 * time.Second, &Counted{rate(100), 1000}},
		{"at least two", []reading{{1, one(5, 5)}, {2, one(10, 105)}, {3, one(110, 1105)}}, 9 * time.Second, &Counted{rate(100), 1000}},
		{"at one instant", []reading{{1, one(5, 5)}, {1, one(10, 105)}}, 0, nil},
		{"detached and attached again", []reading{{1, one(50, 50)}, {2, one(60, 60)}, {3, one(1, 1)}}, 0, nil},
		{"and counted again", []reading{{1, one(50, 50)}, {3, one(1, 1)}, {4, one(3, 5)}}, 0, &Counted{rate(2), 4}},
		{"two policies that meet every packet", []reading{{1, two(1, 1, nil)}, {2, two(3, 5, nil)}}, 0, &Counted{rate(2), 4}},
		{"one of them narrow", []reading{{1, two(1, 1, narrow(1))}, {2, two(3, 5, narrow(1))}}, 0, &Counted{rate(2), 4}},
		{"both of them narrow", []reading{{1, two(1, 1, narrow(0, 1))}, {2, two(3, 5, narrow(0, 1))}}, 0, &Counted{nil, 4}},
		{"the wide one replaced", []reading{{1, two(1, 1, replacing)}, {2, two(3, 5, replacing)}}, 0, &Counted{nil, 4}},
		{"lists", []reading{{1, listed(one(1, 1), 0, 0, 0)}, {2, listed(one(3, 5), 10, 20, 30)}}, 0, &Counted{rate(12), 54}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k kernel
			for _, r := range c.readings {
				k.learn(time.Duration(r.at)*time.Second, r.all, nil)
			}
			if diff := cmp.Diff(c.want, k.counted(c.since)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What is lost is what was lost since listening began, whatever is detached meanwhile.
func TestKernelLost(t *testing.T) {
	var k kernel
	for i, step := range []struct{ counted, want uint64 }{{7, 0}, {9, 2}, {9, 2}, {1, 2}, {4, 5}} {
		a := attachment(0, 0)
		a.Counters.EventsLost = step.counted
		k.learn(time.Duration(i)*time.Second, []loader.Attachment{*a}, nil)
		if k.lost != step.want {
			t.Errorf("step %d: %d lost, want %d", i, k.lost, step.want)
		}
	}
}

// A minute of counts is enough.
func TestKernelCountsAreBounded(t *testing.T) {
	var k kernel
	for i := range 1000 {
		k.learn(time.Duration(i)*time.Second, nil, nil)
	}
	if n := len(k.counts); n != Seconds+1 {
		t.Errorf("%d counts, want %d", n, Seconds+1)
	}
}

func TestKernelNames(t *testing.T) {
	a, vanished := attachment(0, 0), attachment(0, 0)
	vanished.Index, vanished.Interface = 0, "eth9"
	elsewhere := attachment(0, 0)
	elsewhere.Interface, elsewhere.Policies = "eth1", elsewhere.Policies[1:]
	elsewhere.Policies[0].Name = "other"
	var k kernel
	k.learn(0, []loader.Attachment{*a, *vanished}, nil)
	known := denier{7, "xdp", 1, loader.CauseLimit}
	for _, c := range []struct {
		name string
		d    denier
		want Denier
	}{
		{"known", known, Denier{"per-net", loader.CauseLimit, "eth0", "xdp"}},
		{"no policy", denier{7, "xdp", loader.NoSlot, loader.CauseBan}, Denier{"", loader.CauseBan, "eth0", "xdp"}},
		{"another hook", denier{7, "tc-egress", 1, loader.CauseLimit}, Denier{"", loader.CauseLimit, "eth0", "tc-egress"}},
		{"another interface", denier{0, "xdp", 1, loader.CauseLimit}, Denier{"", loader.CauseLimit, "", "xdp"}},
	} {
		if got := *k.denier(c.d); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	errNo := errors.New("no")
	k.learn(0, nil, errNo)
	if got := k.denier(known); got.Policy != "per-net" || k.attached != 2 || !errors.Is(k.trouble, errNo) {
		t.Errorf("what can't be read: %+v of %d, trouble %v", got, k.attached, k.trouble)
	}
	k.learn(0, nil, fmt.Errorf("read: %w", loader.ErrNothingAttached))
	if got := k.denier(known); got.Policy != "" || k.attached != 0 || k.trouble != nil {
		t.Errorf("nothing attached: %+v of %d, trouble %v", got, k.attached, k.trouble)
	}
	k.learn(0, []loader.Attachment{*a, *elsewhere}, nil)
	if got := k.denier(known); got.Policy != "per-net or other" || got.Interface != "eth0 or eth1" {
		t.Errorf("two interfaces of one index: %+v", got)
	}
}
