package main

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// requestBucket is a bucket of a policy of layer l7, which is in the daemon.
type requestBucket struct {
	client *client
	policy policy.Policy
	key    string // as the scope spells it
}

// requestBucket finds the bucket that a key means if the daemon has a policy of layer l7 of that name; nil
// if not.
func (e *env) requestBucket(ctx context.Context, name, key string) (*requestBucket, error) {
	c, err := e.daemon(ctx)
	if err != nil || c == nil {
		return nil, err
	}
	var doc policy.Document
	if err := c.ask(ctx, http.MethodGet, "/v1/policies", nil, &doc); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(doc.Policies, func(p policy.Policy) bool { return p.Name == name })
	if i < 0 || doc.Policies[i].Layer != policy.LayerL7 {
		return nil, nil
	}
	b := &requestBucket{client: c, policy: doc.Policies[i], key: key}
	b.key, err = requestKey(b.policy, key)
	return b, err
}

// requestKey understands a key by the scope of its policy.
func requestKey(p policy.Policy, key string) (string, error) {
	switch p.Scope {
	case policy.ScopePerIP:
		if source, err := parseSource(key); err == nil {
			return source.String(), nil
		}
		return key, nil // of a caller without an address, by its own key
	case policy.ScopeGlobal:
		if key != policy.GlobalKey && key != allBucket {
			return "", usagef("%q is not a key: policy %s is global, and has one bucket: want all, or -", key, p.Name)
		}
		return policy.GlobalKey, nil
	case policy.ScopePerEndpoint:
		if slices.Contains(p.Match.Endpoints, key) {
			return key, nil
		}
		return policy.CleanEndpoint(key), nil
	}
	return key, nil
}

// whose says who has the bucket.
func (b *requestBucket) whose() string {
	switch b.policy.Scope {
	case policy.ScopeGlobal:
		return allBucket
	case policy.ScopePerIP:
		if source, err := parseSource(b.key); err == nil {
			return bucketPrefix(b.policy, source).String()
		}
	}
	return strings.ReplaceAll(b.key, "\n", ", ") // of scope custom: a value a line
}

func (b *requestBucket) path() string {
	return "/v1/buckets/" + url.PathEscape(b.policy.Name) + "/" + url.PathEscape(b.key)
}

// view asks the daemon. What has no entry in its table is not to be told from a bucket that is full.
func (b *requestBucket) view(ctx context.Context) (bucketView, error) {
	var state limiter.BucketState
	if err := b.client.ask(ctx, http.MethodGet, b.path(), nil, &state); err != nil {
		return bucketView{}, err
	}
	p := b.policy
	return bucketView{
		Policy: p.Name, Layer: p.Layer, Scope: p.Scope, Interfaces: []string{}, Key: b.key, Bucket: b.whose(),
		Limit: p.Limit, Window: p.Window.String(), Unit: p.Unit, Burst: state.Burst, Found: state.Remaining < state.Burst,
		Tokens: state.Remaining, Next: state.RetryAfter, Full: state.ResetAfter, Local: state.Local,
	}, nil
}

func getRequestBucket(ctx context.Context, e *env, b *requestBucket) error {
	v, err := b.view(ctx)
	if err != nil {
		return err
	}
	return e.show(v, func(p *page) {
		g := fields("")
		g.field("policy", "%s: %s, burst %s, %s, of layer 7", v.Policy, b.policy.Rate(), thousands(v.Burst), b.policy.Algorithm)
		g.field("bucket", "%s", v.Bucket)
		g.field("tokens", "%s of %s", thousands(v.Tokens), thousands(v.Burst))
		g.field("next token", "%s", after(v.Next, "there is one"))
		g.field("full again", "%s", after(v.Full, "it is full"))
		if v.Local {
			g.add(cell{"mind", faint}, cell{"this is what the node itself counts: Redis gave no answer for this bucket, and on_store_failure decides", yellow})
		}
		g.write(p)
	})
}

func resetRequestBucket(ctx context.Context, e *env, b *requestBucket) error {
	before, err := b.view(ctx)
	if err != nil {
		return err
	}
	if err := b.client.ask(ctx, http.MethodDelete, b.path(), nil, nil); err != nil {
		return err
	}
	v := resetView{Before: before.Tokens}
	if v.bucketView, err = b.view(ctx); err != nil {
		return err
	}
	return e.show(v, func(p *page) {
		p.printf("%s: the bucket of %s is full; it had %s of %s tokens\n", v.Policy, v.Bucket, thousands(v.Before), thousands(v.Burst))
	})
}
