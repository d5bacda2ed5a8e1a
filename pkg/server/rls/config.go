package rls

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

// rule is a limit as requests use it. It never changes.
type rule struct {
	limit *rules.Limit  // nil: it came with a request
	rule  *limiter.Rule // nil: it denies everything, or is unlimited
	as    *pbLimit      // shared by answers, which only read it
	span  time.Duration // its window
	label string        // what the client is told that it is called
}

type (
	pbLimit      = pb.RateLimitResponse_RateLimit
	pbStatus     = pb.RateLimitResponse_DescriptorStatus
	pbDescriptor = ratelimit.RateLimitDescriptor
)

// config is a [rules.Set] as requests use it.
type config struct {
	set      *rules.Set
	rules    []rule // by Limit.ID
	replaces bool   // some limit replaces others
}

func compile(l Limiter, set *rules.Set) (*config, error) {
	c := &config{set: set, rules: make([]rule, len(set.Limits))}
	for i, limit := range set.Limits {
		c.replaces = c.replaces || len(limit.Replaces) > 0
		c.rules[i] = rule{limit: limit}
		if limit.Unlimited {
			continue
		}
		name := ruleName(limit)
		r := rule{
			limit: limit, span: rules.Window(limit.Unit), label: label(limit.Name, name),
			as: &pbLimit{RequestsPerUnit: limit.RequestsPerUnit, Unit: limit.Unit, Name: limit.Name},
		}
		if limit.RequestsPerUnit > 0 { // the engine knows no limit of 0
			var err error
			if r.rule, err = l.NewRule(rules.Policy(name, uint64(limit.RequestsPerUnit), r.span)); err != nil {
				return nil, fmt.Errorf("%s:%d:%d: %w", limit.File, limit.Line, limit.Column, err)
			}
		}
		c.rules[i] = r
	}
	return c, nil
}

// ruleName is a name for a limit by which the engine finds its buckets again when the file is read anew: the
// unit is in it, as a count of minutes is none of hours, and the number is not. Its beginning is for people.
func ruleName(l *rules.Limit) string {
	const readable = 40
	sum := sha256.Sum256([]byte(l.Unit.String() + "\x00" + l.Path))
	plain := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, l.Path[:min(len(l.Path), readable)])
	return "rls-" + plain + "-" + hex.EncodeToString(sum[:8])
}

// label is the name of a limit where it is fit for a header, else that of its rule, which always is.
func label(name, ruleName string) string {
	odd := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-.:/", c))
	}
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, odd) {
		return ruleName
	}
	return name
}

// overrides are the limits that came with requests.
type overrides struct {
	limiter Limiter
	known   atomic.Pointer[map[override]*rule] // replaced as a whole, so that requests take no lock
}

type override struct {
	limit    uint32
	unit     rules.Unit
	multiple uint32
}

// overrideName is the name of all limits that come with requests: the engine counts by it for ever, and shows
// it in metrics, so that requests must not be able to make new ones. See [Server.override] for what keeps
// their buckets apart.
const overrideName = "rls-override"

// maxOverrides bounds the memory for limits that come with requests: the limit is what Envoy's configuration
// says, or what its metadata has, and that is a few.
const maxOverrides = 1024

// of returns the rule for the limit that a descriptor brings.
func (o *overrides) of(d *pbDescriptor) (*rule, error) {
	limit := d.GetLimit()
	want := override{limit: limit.GetRequestsPerUnit(), unit: rules.Unit(limit.GetUnit()), multiple: 1}
	if m := limit.GetUnitMultiplier(); m != nil {
		want.multiple = m.GetValue()
	}
	known := o.known.Load()
	if known != nil {
		if r := (*known)[want]; r != nil {
			return r, nil
		}
	}
	r, err := o.make(want)
	if err != nil {
		return nil, err
	}
	// Who loses a race here makes the rule again; buckets go by its name.
	next := map[override]*rule{want: r}
	if known != nil && len(*known) < maxOverrides {
		maps.Copy(next, *known)
	}
	o.known.CompareAndSwap(known, &next)
	return r, nil
}

func (o *overrides) make(want override) (*rule, error) {
	window := rules.Window(want.unit)
	const most = 1 << 20 // keeps the product in a Duration; the engine's own bound is lower for all but seconds
	if window == 0 || want.multiple == 0 || want.multiple > most || window > (1<<62)/time.Duration(want.multiple) {
		return nil, fmt.Errorf("limit: no window of %d times unit %d; use a unit of SECOND to YEAR and a multiplier that is not 0",
			want.multiple, want.unit)
	}
	window *= time.Duration(want.multiple)
	r := &rule{span: window, label: fmt.Sprintf("%s-%ds", overrideName, window/time.Second), as: &pbLimit{RequestsPerUnit: want.limit, Unit: want.unit}}
	if want.multiple > 1 {
		r.as.UnitMultiplier = wrapperspb.UInt32(want.multiple)
	}
	if want.limit == 0 {
		return r, nil
	}
	var err error
	if r.rule, err = o.limiter.NewRule(rules.Policy(overrideName, uint64(want.limit), window)); err != nil {
		return nil, fmt.Errorf("limit: %w", err)
	}
	return r, nil
}
