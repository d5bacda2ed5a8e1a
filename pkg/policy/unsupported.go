package policy

// unsupported returns a fault for everything that the policy asks for and this
// version does not enforce. What weir understands but would ignore is worse
// than what it refuses. Work that adds a feature deletes its line here.
func (p Policy) unsupported() []Fault {
	const (
		off        = `remove the policy or set "mode: off"`
		unenforced = " is not enforced by this version of weir"
		redisless  = " needs redis, which this version of weir does not use"
	)
	table := []struct {
		path    string
		used    bool
		problem string
		mend    string
	}{
		{"scope", p.Layer == LayerL7 && p.Scope != ScopePerIP && !p.Scope.inKernel(), "scope " + string(p.Scope) + unenforced, off},
		{"scope", p.Layer == LayerL7 && p.Scope != ScopePerIP && p.Scope.inKernel(), "scope " + string(p.Scope) + " of layer l7" + unenforced,
			`set "layer: kernel" to limit packets, remove the policy, or set "mode: off"`},
		// A layer that follows from the scope or the match needs no fault of its own.
		{"layer", p.Layer == LayerL7 && p.Scope == ScopePerIP && !p.Match.NeedsL7(), "layer l7" + unenforced, off},
		{"consistency", p.Consistency != ConsistencyLocal, "consistency " + string(p.Consistency) + redisless,
			`remove consistency or set "consistency: local"`},
		{"on_store_failure", p.OnStoreFailure != StoreFailureLocal, "on_store_failure " + string(p.OnStoreFailure) + redisless,
			`remove on_store_failure or set "on_store_failure: local"`},
	}
	var fs faults
	for _, t := range table {
		if t.used {
			fs.add(t.path, t.problem, t.mend, "mode")
		}
	}
	for _, f := range p.Match.fields() {
		if f.used && !f.kernel {
			// The mend is not to remove the match: the policy would then apply to all traffic.
			fs.add("match."+f.name, "match."+f.name+unenforced, off, "mode")
		}
	}
	return fs
}
