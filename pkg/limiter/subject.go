package limiter

import "github.com/weir-limiter/weir/pkg/policy"

// bucketOf names the bucket that a request has under the rule's policy; false if it has none, because what
// the scope is about is not known of it. endpoint is the pattern that matched.
func (r *Rule) bucketOf(v *view, endpoint int) (hash uint64, ok bool) {
	c := v.request
	switch r.policy.Scope {
	case policy.ScopePerIP:
		if v.client.IsValid() {
			return r.space.address(v.client), true
		}
		return r.ofText(v.key)
	case policy.ScopePerUser:
		return r.ofText(c.UserID)
	case policy.ScopePerAPIKey:
		return r.ofText(c.APIKey)
	case policy.ScopePerEndpoint:
		if r.match.endpoints != nil {
			return r.space.text(r.match.endpoints[endpoint].String()), true
		}
		return r.ofText(v.endpoint)
	case policy.ScopeCustom:
		return r.ofTemplate(v)
	}
	return r.space.only(), true
}

func (r *Rule) ofText(text string) (uint64, bool) { return r.space.text(text), text != "" }

func (r *Rule) ofTemplate(v *view) (uint64, bool) {
	hash := r.space.only()
	for _, part := range r.template.Parts() {
		switch part.Field {
		case policy.FieldText:
			continue
		case policy.FieldIP:
			if !v.client.IsValid() {
				return 0, false
			}
			hash = mix(hash ^ r.space.whole(v.client))
			continue
		}
		text := v.field(part)
		if text == "" {
			return 0, false
		}
		hash = r.space.then(hash, text)
	}
	return hash, true
}

// field is a part of a template that is text.
func (v *view) field(part policy.TemplatePart) string {
	if part.Field == policy.FieldEndpoint {
		return v.endpoint
	}
	return part.Value(v.key, v.request)
}
