package policy

import (
	"fmt"
	"slices"
)

// contradictions returns the fields that are valid by themselves but mean
// nothing beside the others, whatever weir will learn to enforce.
func (p Policy) contradictions() []Fault {
	var fs faults
	p.checkKey(&fs)
	p.checkKernel(&fs)
	for _, f := range p.Match.fields() {
		switch {
		case !f.used:
		case p.Layer == LayerKernel && !f.kernel:
			fs.add("match."+f.name, fmt.Sprintf("layer kernel cannot see %s", f.name),
				fmt.Sprintf(`remove %s or set "layer: l7"`, f.name), "layer")
		case p.Layer == LayerL7 && !f.l7:
			fs.add("match."+f.name, fmt.Sprintf("layer l7 cannot see %s", f.name),
				fmt.Sprintf(`remove %s or set "layer: kernel"`, f.name), "layer", "scope")
		}
	}
	if p.NewSources != nil && (p.Layer != LayerKernel || p.Scope != ScopePerIP) {
		fs.add("new_sources", "only a policy of layer kernel and scope per_ip has new sources", "remove new_sources", "layer", "scope")
	}
	return fs
}

func (p Policy) checkKey(fs *faults) {
	switch {
	case p.Scope == ScopeCustom && p.Key == "":
		fs.add("key", "scope custom needs a key", `set key to a template such as "{user}:{endpoint}"`, "scope")
	case p.Scope != ScopeCustom && p.Key != "":
		fs.add("key", fmt.Sprintf("scope %s makes its own key", p.Scope), `remove key or set "scope: custom"`, "scope")
	}
}

func (p Policy) checkKernel(fs *faults) {
	if p.Layer != LayerKernel {
		return
	}
	if slices.Contains([]Scope{ScopePerUser, ScopePerAPIKey, ScopePerEndpoint, ScopeCustom}, p.Scope) {
		fs.add("scope", fmt.Sprintf("layer kernel cannot see scope %s", p.Scope), `set "scope: per_ip" or "layer: l7"`, "layer")
	}
	if p.Algorithm != AlgorithmTokenBucket {
		fs.add("algorithm", fmt.Sprintf("layer kernel has no %s", p.Algorithm), `set "algorithm: token_bucket"`, "layer")
	}
	if len(p.Headers) > 0 {
		fs.add("headers", "layer kernel answers nobody, so there is nothing to put headers on", "remove headers", "layer")
	}
}
