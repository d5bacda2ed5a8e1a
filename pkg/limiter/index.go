package limiter

import "strings"

// index keeps policies by what a request must have for them, so that ten thousand policies of single users or
// endpoints cost a request a few looks into maps. Each policy is in one dimension, the first of these that it
// asks for; what is found is matched whole.
type index struct {
	users     map[string][]*Rule
	metadata  []metadataIndex
	exact     map[string][]*Rule // endpoints
	segments  map[string][]*Rule // first segments of endpoints
	roles     map[string][]*Rule
	otherwise []*Rule
}

// metadataIndex has the policies that ask for a value of one name.
type metadataIndex struct {
	name   string
	values map[string][]*Rule
}

// maxMetadataIndexes bounds the looks that metadata cost. Names beyond them are rare; their policies are
// matched one by one.
const maxMetadataIndexes = 3

func newIndex(rules []*Rule) index {
	x := index{users: map[string][]*Rule{}, exact: map[string][]*Rule{}, segments: map[string][]*Rule{}, roles: map[string][]*Rule{}}
	for _, r := range rules {
		if !x.add(r) {
			x.otherwise = append(x.otherwise, r)
		}
	}
	return x
}

// add puts a rule where it belongs, and tells whether it has a place.
func (x *index) add(r *Rule) bool {
	m := &r.match
	switch {
	case m.users != nil:
		addTo(x.users, r, m.users)
	case x.addMetadata(r):
	case m.endpoints != nil && x.addEndpoints(r):
	case m.roles != nil:
		addTo(x.roles, r, m.roles)
	default:
		return false
	}
	return true
}

func addTo(to map[string][]*Rule, r *Rule, keys texts) {
	for key := range keys {
		to[key] = append(to[key], r)
	}
}

func (x *index) addMetadata(r *Rule) bool {
	for _, p := range r.match.metadata {
		if p.open {
			continue
		}
		if at := x.metadataOf(p.name); at != nil {
			at.values[p.value] = append(at.values[p.value], r)
			return true
		}
	}
	return false
}

func (x *index) metadataOf(name string) *metadataIndex {
	for i := range x.metadata {
		if x.metadata[i].name == name {
			return &x.metadata[i]
		}
	}
	if len(x.metadata) == maxMetadataIndexes {
		return nil
	}
	x.metadata = append(x.metadata, metadataIndex{name, map[string][]*Rule{}})
	return &x.metadata[len(x.metadata)-1]
}

// addEndpoints fails if one of the patterns begins with a variable, or ends within the first segment. A
// rule is in one map alone, or a request could find it twice.
func (x *index) addEndpoints(r *Rule) bool {
	exact, segments, allExact := texts{}, texts{}, true
	for _, p := range r.match.endpoints {
		path, only := p.Exact()
		segment, whole := firstSegment(p.Prefix())
		if !only && !whole {
			return false
		}
		exact[path], allExact = struct{}{}, allExact && only
		segments[segment] = struct{}{}
	}
	if allExact {
		addTo(x.exact, r, exact)
	} else {
		addTo(x.segments, r, segments)
	}
	return true
}

// firstSegment is the first segment of a path, and whether a slash ends it.
func firstSegment(path string) (segment string, whole bool) {
	segment, _, whole = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment, whole
}

// find appends the buckets of the rules that apply, from first on in the order of evaluation.
func (x *index) find(all []charge, first int, v *view) []charge {
	all = apply(x.otherwise, all, first, v)
	if len(x.users) > 0 {
		all = apply(x.users[v.request.UserID], all, first, v)
	}
	if len(x.exact) > 0 {
		all = apply(x.exact[v.endpoint], all, first, v)
	}
	if len(x.segments) > 0 {
		segment, _ := firstSegment(v.endpoint)
		all = apply(x.segments[segment], all, first, v)
	}
	if len(x.roles) > 0 {
		all = apply(x.roles[v.request.UserRole], all, first, v)
	}
	for i := range x.metadata {
		if value := v.request.Metadata[x.metadata[i].name]; value != "" {
			all = apply(x.metadata[i].values[value], all, first, v)
		}
	}
	return all
}

// apply appends the buckets of those rules of a list that match.
func apply(list []*Rule, all []charge, first int, v *view) []charge {
	for _, r := range list {
		endpoint, ok := r.match.match(v)
		if !ok {
			continue
		}
		hash, ok := r.bucketOf(v, endpoint)
		if !ok {
			continue
		}
		c := charge{rule: r, hash: hash}
		if r.shared != nil {
			c.id = r.identify(v, endpoint)
		}
		all = insert(all, first, c)
	}
	return all
}

// insert keeps the charges from first on in the order of evaluation, in which each list is.
func insert(all []charge, first int, c charge) []charge {
	all = append(all, c)
	for i := len(all) - 1; i > first && all[i-1].rule.order > all[i].rule.order; i-- {
		all[i-1], all[i] = all[i], all[i-1]
	}
	return all
}
