package rules

import (
	"fmt"
	"slices"
	"strings"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

// builder puts files together.
type builder struct {
	set    Set
	errs   Errors
	places map[string]string // of domains
}

func (b *builder) build() (*Set, error) {
	if len(b.errs) > 0 {
		return nil, b.errs[:min(len(b.errs), maxMessages)]
	}
	b.set.Warnings = b.set.Warnings[:min(len(b.set.Warnings), maxMessages)]
	return &b.set, nil
}

// add reads one file.
func (b *builder) add(name string, data []byte) {
	r := &reader{file: name}
	if root, ok := r.document(data); ok {
		b.domain(r, root)
	}
	r.errs.Sort()
	b.errs = append(b.errs, r.errs...)
	b.set.Warnings = append(b.set.Warnings, r.warnings...)
}

func (b *builder) domain(r *reader, root at) {
	var name string
	var list at
	place := root
	r.mapping(root, "the file", fields{
		"domain":      func(a at) { place = a; r.text(&name, "domain")(a) },
		"descriptors": func(a at) { list = a },
	})
	if r.over() {
		return
	}
	if name == "" {
		if len(r.errs) == 0 {
			r.fail(place, "the file has no domain", `write "domain: NAME", the domain that Envoy's filter names`)
		}
		return
	}
	if first, ok := b.places[name]; ok {
		r.fail(place, fmt.Sprintf("domain %s is in %s already", policy.Quote(name), first), "put all descriptors of a domain into one file")
		return
	}
	if b.places == nil {
		b.places, b.set.domains = map[string]string{}, map[string]*Domain{}
	}
	b.places[name] = fmt.Sprintf("%s:%d", r.file, place.line)
	d := &Domain{}
	b.set.domains[name] = d
	if list.Node != nil {
		b.level(r, list, &d.root, name+".")
	}
}

func (b *builder) level(r *reader, list at, to *level, parent string) {
	to.byName = map[string]*node{}
	r.list(list, "descriptors", func(a at) { b.descriptor(r, a, to, parent) })
}

// descriptor reads one descriptor, and what is below it.
func (b *builder) descriptor(r *reader, a at, to *level, parent string) {
	var value string
	var shadow, quota, unused bool
	var rate, nested at
	n, before := &node{}, len(r.errs)
	seen := r.mapping(a, "a descriptor", fields{
		"key":             r.text(&n.key, "key"),
		"value":           r.text(&value, "value"),
		"rate_limit":      func(a at) { rate = a },
		"descriptors":     func(a at) { nested = a },
		"shadow_mode":     r.boolean(&shadow, "shadow_mode"),
		"quota_mode":      r.boolean(&quota, "quota_mode"),
		"share_threshold": r.boolean(&n.share, "share_threshold"),
		// What metrics are called. weir's never have values of descriptors in them.
		"detailed_metric": r.boolean(&unused, "detailed_metric"),
		"value_to_metric": r.boolean(&unused, "value_to_metric"),
	})
	if n.key == "" {
		if len(r.errs) == before {
			r.fail(a, "the descriptor has no key", `write "key: NAME", a key of the descriptors that Envoy sends`)
		}
		return
	}
	n.name = n.key
	if value != "" {
		n.name += "_" + value
	}
	if to.byName[n.name] != nil {
		r.fail(a, fmt.Sprintf("descriptor %s is there twice", policy.Quote(parent+n.name)), "remove one of the two: key and value, joined with a _, must be unique")
		return
	}
	to.byName[n.name] = n
	if prefix, ok := strings.CutSuffix(n.name, "*"); ok {
		n.prefix = prefix
		to.wildcards = append(to.wildcards, n)
	} else if n.share {
		r.fail(a, fmt.Sprintf("share_threshold is for values that end with *, which %s does not", policy.Quote(n.name)),
			"remove share_threshold: all requests with this value share one limit anyway")
	}
	switch {
	case rate.Node != nil && !yamlfile.IsNull(rate.Node):
		b.limit(r, rate, n, Limit{Path: parent + n.name, Shadow: shadow, Quota: quota})
	case seen["rate_limit"]:
		r.warn(rate, "rate_limit has nothing in it, so there is no limit; remove it or give it a unit")
	case shadow || quota:
		r.warn(a, "shadow_mode and quota_mode have no effect on a descriptor without rate_limit; move them to the one that has it")
	}
	if nested.Node != nil {
		b.level(r, nested, &n.next, parent+n.name+".")
	}
}

// limit reads one rate_limit.
func (b *builder) limit(r *reader, a at, n *node, l Limit) {
	var unit string
	l.ID, l.File, l.Line, l.Column = len(b.set.Limits), r.file, a.line, a.column
	unitAt, before := a, len(r.errs)
	seen := r.mapping(a, "rate_limit", fields{
		"requests_per_unit": r.count(&l.RequestsPerUnit, "requests_per_unit"),
		"unit":              func(a at) { unitAt = a; r.text(&unit, "unit")(a) },
		"unlimited":         r.boolean(&l.Unlimited, "unlimited"),
		"name":              r.text(&l.Name, "name"),
		"replaces": func(a at) {
			r.list(a, "replaces", func(a at) {
				var name string
				r.mapping(a, "an element of replaces", fields{"name": r.text(&name, "name")})
				if name == "" {
					r.fail(a, "an element of replaces has no name", `write "- name: NAME", the name of another rate_limit`)
				}
				l.Replaces = append(l.Replaces, name)
			})
		},
	})
	if len(r.errs) > before {
		return
	}
	if l.Name != "" && slices.Contains(l.Replaces, l.Name) {
		r.fail(a, fmt.Sprintf("rate_limit %s replaces itself", policy.Quote(l.Name)), "name another one in replaces, or remove it")
	}
	l.Unit = Unit(pb.RateLimitResponse_RateLimit_Unit_value[strings.ToUpper(unit)])
	window := Window(l.Unit)
	switch {
	case l.Unlimited && window != 0:
		r.fail(unitAt, "what is unlimited has no unit", `remove unit, or "unlimited: true"`)
	case l.Unlimited:
	case window == 0 && unit == "":
		r.fail(unitAt, "rate_limit has no unit", "add one of "+unitNames())
	case window == 0:
		r.fail(unitAt, "unknown unit "+policy.Quote(unit), "use one of "+unitNames())
	case !seen["requests_per_unit"]:
		r.warn(a, `rate_limit has no requests_per_unit, so it denies everything; write "requests_per_unit: 0" if that is wanted`)
	}
	if len(r.errs) > before {
		return
	}
	n.limit = &l
	b.set.Limits = append(b.set.Limits, &l)
}

func unitNames() string {
	var names []string
	for _, u := range Units() {
		names = append(names, strings.ToLower(u.String()))
	}
	return strings.Join(names, ", ")
}
