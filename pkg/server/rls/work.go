package rls

import (
	"slices"
	"sync"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// verdict is what becomes of one descriptor.
type verdict struct {
	rule     *rule // nil: none applies, or policies decide
	hits     uint64
	observed bool          // it is counted, and holds up nobody
	out      bool          // another limit of the request replaces it
	query    limiter.Query // empty: the engine is not asked
	result   limiter.Result
}

func (v *verdict) asks() bool { return v.query.Rule != nil || v.query.Request != nil }

// unlimited and zero are the rules that the engine is not asked about.
func (v *verdict) unlimited() bool {
	return v.rule != nil && v.rule.limit != nil && v.rule.limit.Unlimited
}
func (v *verdict) zero() bool { return v.rule != nil && v.rule.rule == nil && !v.unlimited() }

// work is the memory that a decision needs, and that the next one uses again.
type work struct {
	verdicts []verdict
	denied   bool // by what is not only observed

	parts    []string
	queries  []limiter.Query
	results  []limiter.Result
	asked    []int // the verdict of each query
	requests []limiter.RequestContext
	metadata []map[string]string
}

var works = sync.Pool{New: func() any { return new(work) }}

// keptDescriptors bounds what is kept for the next request: more are rare.
const keptDescriptors = 16

func newWork(descriptors int) *work {
	w := works.Get().(*work)
	w.verdicts = slices.Grow(w.verdicts, descriptors)[:descriptors]
	return w
}

// release forgets everything of the request: nothing of it may be kept from the collector, or be seen by the
// next one.
func (w *work) release() {
	if cap(w.verdicts) > keptDescriptors {
		return
	}
	clear(w.verdicts)
	clear(w.parts[:cap(w.parts)])
	clear(w.queries)
	clear(w.results)
	clear(w.requests)
	for _, m := range w.metadata {
		clear(m)
	}
	w.verdicts, w.denied, w.parts, w.queries = w.verdicts[:0], false, w.parts[:0], w.queries[:0]
	w.results, w.asked, w.requests = w.results[:0], w.asked[:0], w.requests[:0]
	works.Put(w)
}

// replace takes the limits out that others of the same request replace. What is unlimited replaces as well,
// and is not replaced. A few descriptors are compared sooner than put into a map.
func (w *work) replace() {
	for i := range w.verdicts {
		v := &w.verdicts[i]
		if v.rule != nil && v.rule.limit != nil && v.rule.limit.Name != "" && !v.unlimited() && w.replaced(v.rule.limit.Name) {
			v.out = true
		}
	}
	for i := range w.verdicts {
		if v := &w.verdicts[i]; v.out {
			*v = verdict{} // only now: what is replaced replaces others too
		}
	}
}

func (w *work) replaced(name string) bool {
	for i := range w.verdicts {
		if r := w.verdicts[i].rule; r != nil && r.limit != nil && slices.Contains(r.limit.Replaces, name) {
			return true
		}
	}
	return false
}

// zeroes decides over the limits of 0, which the engine doesn't know, and tells whether one denies.
func (w *work) zeroes() (denied bool) {
	for i := range w.verdicts {
		v := &w.verdicts[i]
		if !v.zero() {
			continue
		}
		v.result = limiter.Result{Allowed: v.hits == 0, Policy: v.rule.label, Window: v.rule.span}
		if !v.result.Allowed {
			v.result.RetryAfter = limiter.Never
		}
		denied = denied || !v.result.Allowed && !v.observed
	}
	return denied
}
