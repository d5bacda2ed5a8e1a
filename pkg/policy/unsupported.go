package policy

// unsupported returns a fault for everything that the policy asks for and this
// version does not enforce. What weir understands but would ignore is worse
// than what it refuses. Work that adds a feature deletes its line here.
func (p Policy) unsupported() []Fault {
	const redisless = " needs redis, which this version of weir does not use"
	table := []struct {
		path    string
		used    bool
		problem string
		mend    string
	}{
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
	return fs
}
