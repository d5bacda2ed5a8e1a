package main

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/policy"
)

func explainRequest(ctx context.Context, e *env, f *requestFlags, key, file string) error {
	r, err := f.context(e.in)
	if err != nil {
		return err
	}
	if r.APIKey != "" {
		r.APIKey = identity.HashAPIKey(r.APIKey)
	}
	doc, err := requestPolicies(ctx, e, file)
	if err != nil {
		return err
	}
	v, sentence := classifyRequest(doc, key, r)
	return e.show(v, func(p *page) { writeExplainedRequest(p, v, sentence) })
}

// requestPolicies are those that judge requests: a file's, or the daemon's.
func requestPolicies(ctx context.Context, e *env, file string) (doc policy.Document, err error) {
	if file != "" {
		c, err := config.Load(file)
		if err != nil {
			return doc, err
		}
		return c.Document(), nil
	}
	c, err := e.needDaemon(ctx)
	if err != nil {
		return doc, err
	}
	return doc, c.ask(ctx, http.MethodGet, "/v1/policies", nil, &doc)
}

// explainedRequest is the JSON of weir policy explain for a request. Scripts read it: add fields, rename none.
type explainedRequest struct {
	Request checkContext `json:"request"` // with the digest of the API key
	Key     string       `json:"key,omitempty"`
	// Verdict is pass or drop if lists decide, "limited" if buckets do.
	Verdict  string             `json:"verdict"`
	List     policy.List        `json:"list"`
	Prefix   *netip.Prefix      `json:"prefix"` // the entry of the list that decides
	Policies []requestExplained `json:"policies"`
}

// requestExplained is what one policy does with the request.
type requestExplained struct {
	explainedView
	Bucket string `json:"bucket,omitempty"` // the key of the bucket that is charged
}

func classifyRequest(doc policy.Document, key string, r policy.RequestContext) (v *explainedRequest, sentence string) {
	c := policy.ClassifyRequest(doc.Policies, doc.Lists(), key, r)
	v = &explainedRequest{Request: *contextOf(&r), Key: key, List: c.List, Policies: []requestExplained{}}
	if c.List != policy.ListNone {
		v.Prefix = &c.Prefix
	}
	for _, j := range c.Policies {
		v.Policies = append(v.Policies, requestExplained{
			explainedView: explainedView{
				Policy: j.Policy.Name, Mode: j.Policy.Mode, Effect: j.Effect, Reason: j.Reason,
				rate: limitText(j.Policy, thousands(j.Policy.Burst)),
			},
			Bucket: j.Key,
		})
	}
	v.Verdict, sentence = outcome(c)
	return v, sentence
}

// requestText is a request in one line.
func requestText(v *explainedRequest) string {
	var parts []string
	if line := strings.TrimSpace(v.Request.Method + " " + v.Request.Endpoint); line != "" {
		parts = append(parts, line)
	}
	for _, field := range []struct{ name, value string }{
		{"from ", v.Request.ClientIP}, {"user ", v.Request.UserID}, {"role ", v.Request.UserRole},
		{"API key ", v.Request.APIKey}, {"key ", v.Key},
	} {
		if field.value != "" {
			parts = append(parts, field.name+field.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Request.Metadata)) {
		parts = append(parts, name+" "+v.Request.Metadata[name])
	}
	return strings.Join(parts, ", ")
}

func writeExplainedRequest(p *page, v *explainedRequest, sentence string) {
	p.printf("%s: %s\n", requestText(v), p.paint(bold, sentence))
	if len(v.Policies) == 0 {
		return
	}
	p.printf("\n")
	g := grid{columns: columns("POLICY", "EFFECT", "BUCKET", "REASON")}
	for _, j := range v.Policies {
		why, looks := j.Reason, faint
		if j.Effect == policy.EffectCharge {
			why, looks = j.rate, green
			if j.Mode == policy.ModeShadow {
				why += " (in shadow)"
			}
		}
		g.add(text(j.Policy), cell{string(j.Effect), looks}, text(j.Bucket), text(why))
	}
	g.write(p)
}
