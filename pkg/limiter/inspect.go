package limiter

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// BucketState is what there is in one bucket of a policy.
type BucketState struct {
	Policy     string        `json:"policy"`
	Key        string        `json:"key"`
	Remaining  uint64        `json:"remaining"`
	Burst      uint64        `json:"burst"`
	ResetAfter time.Duration `json:"reset_after_ns"` // until it is full
	RetryAfter time.Duration `json:"retry_after_ns"` // until one hit is admitted
	// Local tells that nodes share this bucket and that its state there was not to be had: this is what the node itself has.
	Local bool `json:"local,omitempty"`
}

// GlobalKey is the key of the one bucket of a policy of scope global.
const GlobalKey = "-"

// Bucket tells the state of the bucket that a policy of layer l7 has for a key, as its scope spells it: an
// address, a user, a digest of an API key, an endpoint or a pattern of the policy's, [GlobalKey], and for
// scope custom the text that the template makes, or the values of its fields, in their order, with a line feed
// between two. It fails with [ErrUnknownPolicy] or a [*QueryError].
func (l *Limiter) Bucket(policyName, key string) (BucketState, error) {
	r, k, err := l.bucketOf(policyName, key)
	if err != nil {
		return BucketState{}, err
	}
	o := r.algorithm.Peek(Bucket{l.table, k.Hash}, l.now(), 1)
	local := false
	if r.shared != nil {
		asked := []Asking{{Shared: r.shared, Key: k, Hits: 1, Peek: true}}
		if l.store.Ask(context.Background(), asked); asked[0].Answer == Decided {
			o = asked[0].Outcome
		} else {
			local = true
		}
	}
	return BucketState{policyName, key, o.Remaining, r.policy.Burst, o.ResetAfter, o.RetryAfter, local}, nil
}

// ResetBucket makes the bucket a full one, or fails like Bucket. What is in flight at the moment is
// forgotten with it.
func (l *Limiter) ResetBucket(policyName, key string) error {
	r, k, err := l.bucketOf(policyName, key)
	if err != nil {
		return err
	}
	r.algorithm.Reset(Bucket{l.table, k.Hash}, l.now())
	if r.shared == nil {
		return nil
	}
	if err := l.store.Reset(context.Background(), r.shared, k); err != nil {
		return fmt.Errorf("this node's own bucket is full again, that which nodes share is not: %w", err)
	}
	return nil
}

func (l *Limiter) bucketOf(policyName, key string) (*Rule, Key, error) {
	r := l.set.Load().byName[policyName]
	if r == nil {
		return nil, Key{}, fmt.Errorf("%q: %w", policyName, ErrUnknownPolicy)
	}
	v, endpoint, bad := r.viewOf(key)
	if bad != nil {
		return nil, Key{}, bad
	}
	hash, ok := r.bucketOf(&v, endpoint)
	if !ok {
		return nil, Key{}, &QueryError{"key", "must not be empty", "say whose bucket"}
	}
	k := Key{Hash: hash}
	if r.shared != nil {
		k.ID = r.identify(&v, endpoint)
	}
	return r, k, nil
}

// viewOf is a request whose bucket has the given key.
func (r *Rule) viewOf(key string) (v view, endpoint int, bad error) {
	v = view{request: &RequestContext{}, key: key, endpoint: policy.CleanEndpoint(key)}
	switch r.policy.Scope {
	case policy.ScopePerIP:
		address, err := netip.ParseAddr(key)
		if prefix, prefixErr := netip.ParsePrefix(key); prefixErr == nil {
			address, err = prefix.Addr(), nil
		}
		if err == nil {
			v.client = address.Unmap().WithZone("")
		}
	case policy.ScopePerUser:
		v.request.UserID = key
	case policy.ScopePerAPIKey:
		v.request.APIKey = key
	case policy.ScopePerEndpoint:
		endpoint, bad = r.endpointOf(&v, key)
	case policy.ScopeCustom:
		bad = r.fillBy(&v, key)
	case policy.ScopeGlobal:
		if key != GlobalKey {
			bad = &QueryError{"key", fmt.Sprintf("%q is none: there is one bucket for all", key), "write " + GlobalKey}
		}
	}
	return v, endpoint, bad
}

// endpointOf finds a pattern by its text, or by a path that it matches.
func (r *Rule) endpointOf(v *view, key string) (int, error) {
	if r.match.endpoints == nil {
		return 0, nil
	}
	patterns := r.policy.Match.Endpoints
	if i := slices.Index(patterns, key); i >= 0 {
		return i, nil
	}
	for i := range r.match.endpoints {
		if r.match.endpoints[i].Match(v.endpoint) {
			return i, nil
		}
	}
	return 0, &QueryError{"key", fmt.Sprintf("%q is no endpoint of the policy", key), "use one of " + strings.Join(patterns, ", ")}
}

// fillBy puts the values that a key is made of into the fields of the policy's template. What can be a text of
// the template is one: a value that looks like one has to be written as part of its text.
func (r *Rule) fillBy(v *view, key string) error {
	if strings.Contains(key, "\n") {
		return r.fill(v, strings.Split(key, "\n"))
	}
	values, err := r.template.Split(key)
	if err == nil {
		return r.fill(v, values)
	}
	if fields := r.fields(); len(fields) == 1 {
		return r.fill(v, []string{key})
	}
	wrong := err.(*policy.TextError) // as Split says
	return &QueryError{"key", wrong.Problem, wrong.Mend}
}

// fields are those of the policy's template, without the text between them.
func (r *Rule) fields() []policy.TemplatePart {
	return slices.DeleteFunc(slices.Clone(r.template.Parts()), func(p policy.TemplatePart) bool { return p.Field == policy.FieldText })
}

// fill puts values into the fields of the policy's template.
func (r *Rule) fill(v *view, values []string) error {
	fields := r.fields()
	if len(values) != len(fields) {
		return &QueryError{"key", fmt.Sprintf("has %d values for the %d fields of %s", len(values), len(fields), r.template),
			"give one for each, with line feeds between them"}
	}
	c := v.request
	c.Metadata = map[string]string{}
	for i, f := range fields {
		switch value := values[i]; f.Field {
		case policy.FieldUser:
			c.UserID = value
		case policy.FieldRole:
			c.UserRole = value
		case policy.FieldAPIKey:
			c.APIKey = value
		case policy.FieldEndpoint:
			v.endpoint = policy.CleanEndpoint(value)
		case policy.FieldMethod:
			c.Method = value
		case policy.FieldKey:
			v.key = value
		case policy.FieldMetadata:
			c.Metadata[f.Text] = value
		case policy.FieldIP:
			address, _ := netip.ParseAddr(value) // one that is none has no bucket
			v.client = address.Unmap().WithZone("")
		}
	}
	return nil
}
