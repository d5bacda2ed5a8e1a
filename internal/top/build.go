package top

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/topk"
)

// Report tells what came in the time before now that q asks for. It also says that somebody is interested:
// see [Options].
func (t *Top) Report(now time.Duration, q Query) (*Report, error) {
	q, err := q.Check()
	if err != nil {
		return nil, err
	}
	select {
	case t.asked <- struct{}{}:
	default: // is known
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.askedAt = max(t.askedAt, now)
	r := &Report{By: q.By, Busiest: []Source{}, Denied: []Source{}, Attached: t.kernel.attached}
	r.Events.Kept = sources
	if t.kernel.trouble != nil {
		r.Trouble = t.kernel.trouble.Error()
	}
	if !t.listening || now <= t.started {
		return r, nil
	}
	r.Listening = now - t.started
	w := newWindow(t.started, now, q.Window)
	r.Window = w.seconds
	t.reportTotal(r, w)
	busiest := q.By
	if busiest == ByDropped {
		busiest = ByPassed
	}
	r.Busiest = t.list(busiest, q.N, w)
	r.Denied = t.list(ByDropped, q.N, w)
	return r, nil
}

func (t *Top) reportTotal(r *Report, w window) {
	sum := t.total.since(w.first)
	r.Total = Total{
		Passed: w.rate(sum.passed), Dropped: w.rate(sum.dropped), Shadow: w.rate(sum.shadow), Bytes: w.rate(sum.bytes),
		Counted: t.kernel.counted(w.begin), History: w.history(&t.total, &t.total),
	}
	r.Events.Samples = sum.samples
	r.Events.Lost = t.options.Listener.Lost() - t.lostBefore + t.kernel.lost
	if sum.samples > 0 {
		r.Events.Weight = tenths(float64(sum.passed+sum.dropped) / float64(sum.samples))
	}
}

// list is the head of a ranking, by what came in the window.
func (t *Top) list(by By, n int, w window) []Source {
	type candidate struct {
		topk.Entry[netip.Addr, source]
		heavy uint64
	}
	sum := t.total.since(w.first)
	whole := by.of(&sum)
	var all []candidate
	for _, e := range t.rankings[by].Top(w.now, sources) {
		in := e.Value.series.since(w.first)
		if heavy := by.of(&in); heavy > 0 {
			all = append(all, candidate{e, heavy})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.heavy, a.heavy), a.Key.Compare(b.Key))
	})
	list := make([]Source, 0, min(n, len(all)))
	for _, c := range all[:cap(list)] {
		s := t.source(c.Key, c.Value, w)
		s.Share = math.Round(1e4*float64(c.heavy)/float64(whole)) / 1e4
		list = append(list, s)
	}
	return list
}

// of is the part of an amount that a ranking is by.
func (by By) of(a *amount) uint64 {
	switch by {
	case ByBytes:
		return a.bytes
	case ByDropped:
		return a.denied()
	}
	return a.passed
}

// source describes a source of one ranking, with what the other ones know better: what did not weigh in
// this one is only remembered since the source came into it.
func (t *Top) source(key netip.Addr, own *source, w window) Source {
	passed, missingPassed := t.best(ByPassed, key, own, w)
	denied, missingDenied := t.best(ByDropped, key, own, w)
	longest := passed
	if denied.since < passed.since {
		longest = denied
	}
	in, out, all := passed.series.since(w.first), denied.series.since(w.first), longest.series.since(w.first)
	s := Source{
		Source: key,
		Passed: w.estimate(in.passed, in.passedVariance, missingPassed),
		Denied: w.estimate(out.denied(), out.deniedVariance, missingDenied), Dropped: w.rate(out.dropped), Shadow: w.rate(out.shadow),
		Bytes: w.rate(in.bytes), Samples: all.samples, History: w.history(&passed.series, &denied.series),
	}
	if most, ok := longest.services.most(); ok {
		s.Protocol, s.Port = protocolName(most.protocol), most.port
	}
	if who, ok := denied.deniers.most(); ok && out.denied() > 0 {
		s.DeniedBy = t.kernel.denier(who)
	}
	return s
}

// best is what remembers a source longest, own or its entry in a ranking. missing is what the source may
// have weighed in that ranking before that, but within the window.
func (t *Top) best(by By, key netip.Addr, own *source, w window) (best *source, missing float64) {
	best, missing = own, t.rankings[by].Min(w.now)
	if e, ok := t.rankings[by].Lookup(w.now, key); ok {
		missing = e.Error
		if e.Value.since < own.since {
			best = e.Value
		}
	}
	if best.since <= w.begin {
		return best, 0
	}
	return best, missing * w.faded()
}

func protocolName(number uint8) string {
	switch number {
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_GRE:
		return "gre"
	case unix.IPPROTO_ESP:
		return "esp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(number))
}

func tenths(x float64) float64 { return math.Round(10*x) / 10 }
