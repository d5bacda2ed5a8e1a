package rls

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

const (
	// PolicyDomain is the domain that the limiter's policies decide over, without a configuration.
	PolicyDomain = "weir"
	// maxDescriptors bounds the buckets that one request can charge.
	maxDescriptors = 256
)

// ShouldRateLimit decides over one request: all of its limits are charged, or none.
func (s *Server) ShouldRateLimit(ctx context.Context, req *pb.RateLimitRequest) (resp *pb.RateLimitResponse, err error) {
	defer s.recovered(&resp, &err)
	if err := shapeFault(req); err != nil {
		return nil, err
	}
	w := newWork(len(req.GetDescriptors()))
	defer w.release()
	known := true
	if c := s.config.Load(); c != nil {
		known, err = s.byRules(c, req, w)
	} else {
		known, err = s.byPolicies(req, w)
	}
	if err != nil {
		return nil, err
	}
	if !known {
		s.unknown.add(req.GetDomain(), s.log)
		return s.answer(w), nil // which has no limits in it
	}
	if bad, err := s.decide(ctx, w); err != nil {
		return nil, s.fault(bad, err)
	}
	return s.answer(w), nil
}

// shapeFault says what is wrong with a request whatever the limits are.
func shapeFault(req *pb.RateLimitRequest) error {
	switch n := len(req.GetDescriptors()); {
	case req.GetDomain() == "":
		return status.Error(codes.InvalidArgument, "rate limit domain must not be empty")
	case n == 0:
		return status.Error(codes.InvalidArgument, "rate limit descriptor list must not be empty")
	case n > maxDescriptors:
		return status.Errorf(codes.InvalidArgument, "%d descriptors: send at most %d", n, maxDescriptors)
	}
	for i, d := range req.GetDescriptors() {
		if d.GetIsNegativeHits() {
			return badDescriptor(i, errors.New("is_negative_hits: weir takes no hits back; send what was used once it is known"))
		}
	}
	return nil
}

// fault is the answer to what could not be decided. Envoy, unless it is told otherwise, lets such a request
// pass; an answer with the code UNKNOWN would be taken for one that decides.
func (s *Server) fault(descriptor int, err error) error {
	switch {
	case errors.Is(err, limiter.ErrQuery):
		return badDescriptor(descriptor, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if s.failures.due() {
		s.log.Error("a rate limit request could not be decided", "error", err)
	}
	return status.Error(codes.Unavailable, "the limiter failed; its log says why")
}

func badDescriptor(i int, err error) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf("descriptors[%d].%v", i, err))
}

// recovered keeps a defect of one call from ending the daemon, which gRPC would let it.
func (s *Server) recovered(resp **pb.RateLimitResponse, err *error) {
	p := recover()
	if p == nil {
		return
	}
	*resp, *err = nil, status.Error(codes.Unavailable, "the limiter failed; its log says why")
	if s.failures.due() {
		// What was panicked with may hold parts of the request.
		s.log.Error("panic in a rate limit request", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
	}
}

// byRules finds the limit of each descriptor in the configuration; false: it has no such domain.
func (s *Server) byRules(c *config, req *pb.RateLimitRequest, w *work) (known bool, err error) {
	domain := c.set.Domain(req.GetDomain())
	if domain == nil {
		return false, nil
	}
	for i, d := range req.GetDescriptors() {
		v := &w.verdicts[i]
		v.hits = hitsOf(req, d)
		if d.GetLimit() != nil {
			if err := s.override(req, d, v, w); err != nil {
				return true, badDescriptor(i, err)
			}
			continue
		}
		var limit *rules.Limit
		limit, w.parts = domain.Find(d.GetEntries(), w.parts[:0])
		if limit == nil {
			continue
		}
		v.rule = &c.rules[limit.ID]
		v.observed = s.shadow || limit.Shadow || limit.Quota
		if v.rule.rule != nil {
			v.query = limiter.Query{Key: bucketKey(w.parts), Rule: v.rule.rule}
		}
	}
	if c.replaces {
		w.replace()
	}
	return true, nil
}

// override has a descriptor decided by the limit that it brings.
func (s *Server) override(req *pb.RateLimitRequest, d *pbDescriptor, v *verdict, w *work) (err error) {
	if v.rule, err = s.overrides.of(d); err != nil {
		return err
	}
	v.observed = s.shadow
	if v.rule.rule == nil {
		return nil
	}
	// The window is in the key, as a count of minutes is none of hours, and the number is not: as with
	// envoyproxy/ratelimit a count goes on when it changes.
	w.parts = append(w.parts[:0], v.rule.label, req.GetDomain())
	for _, e := range d.GetEntries() {
		w.parts = append(w.parts, e.GetKey(), e.GetValue())
	}
	v.query = limiter.Query{Key: bucketKey(w.parts), Rule: v.rule.rule}
	return nil
}

// hitsOf is how many hits a descriptor is worth. A 0 of the descriptor's own asks and takes nothing; a 0 of
// the request is what clients send that know no hits_addend.
func hitsOf(req *pb.RateLimitRequest, d *pbDescriptor) uint64 {
	if h := d.GetHitsAddend(); h != nil {
		return h.GetValue()
	}
	return uint64(max(1, req.GetHitsAddend()))
}

// decide charges every verdict's limit, or none. An error concerns the descriptor whose index comes with it.
func (s *Server) decide(ctx context.Context, w *work) (bad int, err error) {
	denied := w.zeroes()
	for i := range w.verdicts {
		if v := &w.verdicts[i]; v.asks() && !v.observed {
			v.query.Hits = v.hits
			if denied {
				v.query.Hits = 0 // nothing will be charged: ask only
			}
			w.queries = append(w.queries, v.query)
			w.asked = append(w.asked, i)
		}
	}
	if bad, err := s.askAll(ctx, w); err != nil {
		return bad, err
	}
	for i := range w.verdicts {
		v := &w.verdicts[i]
		denied = denied || !v.observed && v.asks() && !v.result.Allowed
	}
	// What only observes is decided each on its own: it neither denies the others nor is held up by them.
	for i := range w.verdicts {
		v := &w.verdicts[i]
		if !v.asks() || !v.observed {
			continue
		}
		v.query.Hits = v.hits
		if denied {
			v.query.Hits = 0
		}
		if v.result, err = s.limiter.Check(ctx, v.query); err != nil {
			return i, err
		}
	}
	w.denied = denied
	return 0, nil
}

// askAll asks what is in w.queries, in one step.
func (s *Server) askAll(ctx context.Context, w *work) (bad int, err error) {
	switch len(w.queries) {
	case 0:
		return 0, nil
	case 1:
		v := &w.verdicts[w.asked[0]]
		v.result, err = s.limiter.Check(ctx, w.queries[0])
		return w.asked[0], err
	}
	for range w.queries {
		w.results = append(w.results, limiter.Result{})
	}
	if bad, err := s.limiter.CheckAll(ctx, w.queries, w.results); err != nil {
		return w.asked[bad], err
	}
	for i, at := range w.asked {
		w.verdicts[at].result = w.results[i]
	}
	return 0, nil
}
