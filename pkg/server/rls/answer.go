package rls

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

// response is an answer with its messages in one piece of memory. gRPC keeps an answer for as long as it
// likes, so that each call needs one of its own.
type response struct {
	message pb.RateLimitResponse
	list    []*pbStatus
	items   []item
	one     [1]item // for list and items of one descriptor, as most requests have
	first   [1]*pbStatus
}

type item struct {
	status pbStatus
	reset  durationpb.Duration
}

func newResponse(descriptors int) *response {
	r := &response{}
	r.items, r.list = r.one[:], r.first[:]
	if descriptors > 1 {
		r.items, r.list = make([]item, descriptors), make([]*pbStatus, descriptors)
	}
	r.message.Statuses = r.list
	return r
}

// answer says what was decided, descriptor by descriptor in the order of the request.
func (s *Server) answer(w *work) *pb.RateLimitResponse {
	r := newResponse(len(w.verdicts))
	var now time.Time
	var quotas []*structpb.Value
	for i := range w.verdicts {
		v, it := &w.verdicts[i], &r.items[i]
		r.list[i] = &it.status
		it.status.Code = pb.RateLimitResponse_OK
		switch {
		case v.unlimited():
			it.status.LimitRemaining = math.MaxUint32
			continue
		case !v.asks() && !v.zero():
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		v.describe(it, now)
		if !v.result.Allowed && !v.quiet() {
			it.status.Code = pb.RateLimitResponse_OVER_LIMIT
		}
		if !v.result.Allowed && v.rule != nil && v.rule.limit != nil && v.rule.limit.Quota {
			quotas = append(quotas, structpb.NewNumberValue(float64(i)))
		}
	}
	r.message.OverallCode = pb.RateLimitResponse_OK
	if w.denied {
		r.message.OverallCode = pb.RateLimitResponse_OVER_LIMIT
	}
	if s.headers != nil {
		r.message.ResponseHeadersToAdd = s.tell(w)
	}
	if quotas != nil {
		r.message.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{
			"quotaModeEnabled":    structpb.NewBoolValue(true),
			"quotaModeViolations": structpb.NewListValue(&structpb.ListValue{Values: quotas}),
		}}
	}
	return &r.message
}

// quiet tells that the status is OK although the limit is exceeded. With [Options.Shadow] alone it says so,
// and only the overall code is OK.
func (v *verdict) quiet() bool {
	return v.rule != nil && v.rule.limit != nil && (v.rule.limit.Shadow || v.rule.limit.Quota)
}

// describe fills in the figures.
func (v *verdict) describe(it *item, now time.Time) {
	reset := v.result.ResetAfter
	switch {
	case v.rule != nil:
		it.status.CurrentLimit = v.rule.as
		if reset <= 0 { // nothing is counted yet, and still the window ends
			reset = v.rule.span - time.Duration(now.UnixNano())%v.rule.span
		}
	case v.result.Policy != "":
		it.status.CurrentLimit = currentLimit(&v.result)
	default:
		return // no policy applied, or a list decided
	}
	it.status.LimitRemaining = uint32(min(v.result.Remaining, math.MaxUint32))
	// Whole seconds, as Envoy cuts the rest off: a client that comes back on time must not come too early.
	it.reset.Seconds = int64((reset + time.Second - 1) / time.Second)
	it.status.DurationUntilReset = &it.reset
}

// currentLimit says the limit of a policy in units. A window that is no whole number of seconds is none of
// them, and is told as what it amounts to in a second.
func currentLimit(r *limiter.Result) *pbLimit {
	l := &pbLimit{Name: r.Policy, Unit: pb.RateLimitResponse_RateLimit_SECOND}
	if r.Window <= 0 || r.Window%time.Second != 0 {
		perSecond := float64(r.Limit) / max(r.Window.Seconds(), 1e-9)
		l.RequestsPerUnit = uint32(min(math.Round(perSecond), math.MaxUint32))
		return l
	}
	l.RequestsPerUnit = uint32(min(r.Limit, math.MaxUint32))
	units := rules.Units()
	for _, u := range slices.Backward(units) {
		window := rules.Window(u)
		if r.Window%window != 0 {
			continue
		}
		l.Unit = u
		if n := r.Window / window; n > 1 {
			l.UnitMultiplier = wrapperspb.UInt32(uint32(min(n, math.MaxUint32)))
		}
		break
	}
	return l
}

// tell returns the headers for the result that decides what the client is told: of those that deny the one
// with the longest wait, else the one with the fewest hits left.
func (s *Server) tell(w *work) []*core.HeaderValue {
	var most *verdict
	for i := range w.verdicts {
		v := &w.verdicts[i]
		if !(v.asks() || v.zero()) || v.quiet() {
			continue
		}
		if most == nil || stricter(&v.result, &most.result) {
			most = v
		}
	}
	if most == nil {
		return nil
	}
	result := most.result
	if most.rule != nil {
		result.Policy = most.rule.label
	}
	h := http.Header{}
	s.headers(h, &result)
	if !w.denied { // what denied is only observed: there is nothing to wait for
		h.Del("Retry-After")
	}
	list := make([]*core.HeaderValue, 0, len(h))
	for name, values := range h {
		for _, value := range values {
			list = append(list, &core.HeaderValue{Key: name, Value: value})
		}
	}
	slices.SortStableFunc(list, func(a, b *core.HeaderValue) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

func stricter(a, b *limiter.Result) bool {
	none := func(r *limiter.Result) bool { return r.Allowed && (r.Policy == "" || r.List != policy.ListNone) }
	switch {
	case none(a) != none(b):
		return none(b)
	case a.Allowed != b.Allowed:
		return b.Allowed
	case !a.Allowed:
		return a.RetryAfter > b.RetryAfter
	}
	return a.Remaining < b.Remaining
}
