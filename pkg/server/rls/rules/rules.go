// Package rules reads the configuration of envoyproxy/ratelimit, and finds the limit of a descriptor in it.
//
// What that server takes is taken here and means the same. Where it ignores something in silence there is a
// warning, and where it says no, or guesses, an error with file, line and column. docs/RLS.md has the format.
package rules

import (
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Set is what was read: the limits of any number of domains. It never changes.
type Set struct {
	// Limits are all limits, each at its own index, [Limit.ID].
	Limits []*Limit
	// Warnings are what was read and has no effect, each a line with its place.
	Warnings []string

	domains map[string]*Domain
}

// Domain returns the domain of a name, or nil.
func (s *Set) Domain(name string) *Domain { return s.domains[name] }

// Limit is one rate_limit.
type Limit struct {
	// ID is the index in [Set.Limits].
	ID int
	// Path is where it stands: domain, keys and values, as "domain.key_value.key".
	Path string
	// File, Line and Column are where it was read.
	File         string
	Line, Column int
	// Name is what others replace it by, and Replaces whom it replaces.
	Name     string
	Replaces []string
	// RequestsPerUnit is the limit; 0 denies everything.
	RequestsPerUnit uint32
	Unit            Unit
	// Unlimited says that there is no limit: the two above have no meaning.
	Unlimited bool
	// Shadow and Quota limits are counted and never enforced. Quota says so to the client.
	Shadow, Quota bool
}

// Unit is the length of a window.
type Unit = pb.RateLimitResponse_RateLimit_Unit

// Units returns every unit, the shortest first.
func Units() []Unit {
	return []Unit{
		pb.RateLimitResponse_RateLimit_SECOND, pb.RateLimitResponse_RateLimit_MINUTE, pb.RateLimitResponse_RateLimit_HOUR,
		pb.RateLimitResponse_RateLimit_DAY, pb.RateLimitResponse_RateLimit_WEEK, pb.RateLimitResponse_RateLimit_MONTH,
		pb.RateLimitResponse_RateLimit_YEAR,
	}
}

// Window is the length of a unit, 0 for one that there is not. As with envoyproxy/ratelimit a month has 30
// days, and a year 365.
func Window(u Unit) time.Duration {
	const day = 24 * time.Hour
	switch u {
	case pb.RateLimitResponse_RateLimit_SECOND:
		return time.Second
	case pb.RateLimitResponse_RateLimit_MINUTE:
		return time.Minute
	case pb.RateLimitResponse_RateLimit_HOUR:
		return time.Hour
	case pb.RateLimitResponse_RateLimit_DAY:
		return day
	case pb.RateLimitResponse_RateLimit_WEEK:
		return 7 * day
	case pb.RateLimitResponse_RateLimit_MONTH:
		return 30 * day
	case pb.RateLimitResponse_RateLimit_YEAR:
		return 365 * day
	}
	return 0
}

// Policy is a limit as the engine is told it: a fixed window, aligned to Unix time.
func Policy(name string, limit uint64, window time.Duration) policy.Policy {
	return policy.Policy{
		Name: name, Scope: policy.ScopeGlobal, Layer: policy.LayerL7,
		Algorithm: policy.AlgorithmFixedWindow, Limit: limit, Window: window,
	}.WithDefaults()
}

// Domain is a tree of descriptors.
type Domain struct{ root level }

// level are the descriptors below a domain or a descriptor. They are known by key and value with a "_"
// between them, ambiguous as that is: files were written for a server that does it.
type level struct {
	byName    map[string]*node
	wildcards []*node // in the order of the file: the first that matches is taken
}

// node is one descriptor.
type node struct {
	key    string
	name   string // key_value, or key
	prefix string // of a wildcard: name without its "*"
	share  bool   // what a wildcard matches shares one bucket
	limit  *Limit
	next   level
}

// match is how a descriptor was found for an entry.
type match int

const (
	exact    match = iota // by key and value, or with all values that share its bucket
	perValue              // every value has a bucket
	odd                   // another split of the same text than the file's: every key and value has a bucket
)

// longName is the length of key and value up to which a lookup doesn't allocate.
const longName = 256

// find returns the descriptor for an entry, or nil.
func (l *level) find(e *ratelimit.RateLimitDescriptor_Entry) (*node, match) {
	var buf [longName]byte
	name := append(append(append(buf[:0], e.GetKey()...), '_'), e.GetValue()...)
	if n := l.byName[string(name)]; n != nil {
		return n, exact
	}
	for _, n := range l.wildcards {
		if len(name) >= len(n.prefix) && string(name[:len(n.prefix)]) == n.prefix {
			switch {
			case n.key != e.GetKey():
				return n, odd
			case n.share:
				return n, exact
			}
			return n, perValue
		}
	}
	n := l.byName[e.GetKey()]
	if n != nil && n.key != e.GetKey() {
		return n, odd
	}
	return n, perValue
}

// Find returns the limit for the entries of a descriptor, nil if there is none, and appends to parts what
// tells its buckets from each other. A limit applies to a descriptor with as many entries as it is deep.
func (d *Domain) Find(entries []*ratelimit.RateLimitDescriptor_Entry, parts []string) (*Limit, []string) {
	at, strange := &d.root, false
	before := len(parts)
	for i, e := range entries {
		n, how := at.find(e)
		if n == nil {
			return nil, parts
		}
		strange = strange || how == odd
		if how == perValue {
			parts = append(parts, e.GetValue())
		}
		if i < len(entries)-1 {
			at = &n.next
			continue
		}
		if strange && n.limit != nil {
			parts = d.spellOut(entries, parts[:before])
		}
		return n.limit, parts
	}
	return nil, parts
}

// spellOut appends every key and value, which are more parts than Find has by itself.
func (d *Domain) spellOut(entries []*ratelimit.RateLimitDescriptor_Entry, parts []string) []string {
	at := &d.root
	for _, e := range entries {
		n, how := at.find(e)
		switch {
		case how == exact:
			parts = append(parts, n.name, "")
		case n.share:
			parts = append(parts, e.GetKey(), "*")
		default:
			parts = append(parts, e.GetKey(), e.GetValue())
		}
		at = &n.next
	}
	return parts
}
