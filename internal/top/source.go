package top

import (
	"math"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/topk"
)

// halfLife is how fast a ranking forgets. It is longer than what is usually looked at, so that a source in
// bursts stays, and short enough that the place of one which has gone is soon free.
const halfLife = 10 * time.Second

// By says what sources are ranked by.
type By string

// The rankings.
const (
	ByPassed  By = "passed"  // packets that passed
	ByDropped By = "dropped" // packets that were dropped, or would have been by a policy in shadow
	ByBytes   By = "bytes"   // bytes that passed
)

// source is what is remembered of one source, since it has a counter in its ranking.
type source struct {
	known    bool
	since    time.Duration // when it came into its counter
	series   series
	services few[service] // of all packets
	deniers  few[denier]  // of those that were denied
}

// service is what a packet was for.
type service struct {
	protocol uint8
	port     uint16
}

// denier is who dropped a packet, or would have.
type denier struct {
	ifindex int
	hook    string
	slot    uint8
	cause   loader.Cause
}

// ranking keeps the sources that are heaviest by one measure.
type ranking = topk.Sketch[netip.Addr, source]

// weight is what an event weighs by a measure.
func (by By) weight(e *loader.Event) uint64 {
	switch by {
	case ByPassed:
		if e.Verdict != policy.VerdictDrop {
			return e.Packets
		}
	case ByBytes:
		if e.Verdict != policy.VerdictDrop {
			return e.Bytes
		}
	case ByDropped:
		if e.Verdict != policy.VerdictPass {
			return e.Packets
		}
	}
	return 0
}

// charge ranks an event. Of a source that is ranked already, what does not weigh here is remembered too.
func charge(r *ranking, by By, e *loader.Event) {
	s := r.Add(e.Time, e.Source, by.weight(e))
	if s == nil {
		return
	}
	if !s.known {
		s.known, s.since = true, e.Time
	}
	s.add(e)
}

func (s *source) add(e *loader.Event) {
	if past := second(e.Time) - s.series.last; past > 0 {
		fade := math.Exp2(-float64(time.Duration(min(past, kept))*time.Second) / float64(halfLife))
		s.services.fade(fade)
		s.deniers.fade(fade)
	}
	s.series.count(e)
	s.services.add(service{e.Protocol, e.Port}, e.Packets)
	if e.Verdict != policy.VerdictPass {
		s.deniers.add(denier{e.Interface, e.Hook, e.Slot, e.Cause}, e.Packets)
	}
}

// count adds an event to its second; one that is older than the series remembers is for nobody to see.
func (s *series) count(e *loader.Event) {
	bin := s.at(e.Time)
	if bin == nil {
		return
	}
	one := amount{samples: 1}
	variance := float64(e.Packets) * float64(e.Packets-1)
	if e.Verdict == policy.VerdictDrop {
		one.dropped = e.Packets
	} else {
		one.passed, one.bytes, one.passedVariance = e.Packets, e.Bytes, variance
	}
	if e.Verdict == policy.VerdictShadowDrop {
		one.shadow = e.Packets
	}
	if e.Verdict != policy.VerdictPass {
		one.deniedVariance = variance
	}
	bin.add(&one)
}
