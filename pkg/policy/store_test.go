package policy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestConsistencies holds which consistency goes with which layer and algorithm: every pair of them, those that
// are refused with the ones that there are.
func TestConsistencies(t *testing.T) {
	const all = "strict leased reconciled local"
	for _, c := range []struct {
		layer     Layer
		algorithm Algorithm
		can       string
	}{
		{LayerKernel, AlgorithmTokenBucket, "reconciled local"},
		{LayerL7, AlgorithmTokenBucket, "strict leased local"},
		{LayerL7, AlgorithmSlidingWindow, "strict leased local"},
		{LayerL7, AlgorithmFixedWindow, "strict leased local"},
		{LayerL7, AlgorithmLeakyBucket, "strict local"},
		{LayerL7, AlgorithmConcurrency, "strict local"},
	} {
		for _, consistency := range Consistencies() {
			p := valid()
			p.Layer, p.Algorithm, p.Consistency = c.layer, c.algorithm, consistency
			want := slices.Contains(strings.Fields(c.can), string(consistency))
			faults := p.Validate()
			if (faults == nil) != want || !want && !slices.Equal(paths(faults), []string{"consistency"}) {
				t.Errorf("%s, %s, %s of %s: %v", c.layer, c.algorithm, consistency, all, faults)
			}
			if p.Mode = ModeOff; p.Validate() != nil {
				t.Errorf("%s, %s, %s, off: %v", c.layer, c.algorithm, consistency, p.Validate())
			}
		}
	}
}

func TestStoreFaults(t *testing.T) {
	l7 := func(p *Policy) { p.Layer = LayerL7 }
	for _, c := range []struct {
		name   string
		change func(*Policy)
		shared bool
		paths  []string
		says   string
	}{
		{"nothing", func(*Policy) {}, false, nil, ""},
		{"local", func(p *Policy) { p.Consistency, p.OnStoreFailure = ConsistencyLocal, StoreFailureLocal }, false, nil, ""},
		{"strict without a store", func(p *Policy) { l7(p); p.Consistency = ConsistencyStrict }, false, []string{"policies[0].consistency"},
			`consistency strict counts in Redis, and there is none; add "redis: {url: ...}"`},
		{"strict", func(p *Policy) { l7(p); p.Consistency = ConsistencyStrict }, true, nil, ""},
		{"strict, off", func(p *Policy) { l7(p); p.Consistency, p.Mode = ConsistencyStrict, ModeOff }, false, nil, ""},
		{"open without a store", func(p *Policy) { l7(p); p.OnStoreFailure = StoreFailureOpen }, false, []string{"policies[0].on_store_failure"},
			"on_store_failure open is for when Redis is away, and there is none"},
		{"both without a store", func(p *Policy) { l7(p); p.Consistency, p.OnStoreFailure = ConsistencyLeased, StoreFailureShare }, false,
			[]string{"policies[0].consistency", "policies[0].on_store_failure"}, ""},
		{"one fault each", func(p *Policy) { p.Consistency = ConsistencyStrict }, false, []string{"policies[0].consistency"},
			"layer kernel has no strict: a packet cannot wait for the store; use one of reconciled, local"},
		{"closed", func(p *Policy) { l7(p); p.OnStoreFailure = StoreFailureClosed }, true, nil, ""},
		{"closed, local", func(p *Policy) { l7(p); p.Consistency, p.OnStoreFailure = ConsistencyLocal, StoreFailureClosed }, true,
			[]string{"policies[0].on_store_failure"}, "asks no store that could fail"},
		{"closed packets", func(p *Policy) { p.OnStoreFailure = StoreFailureClosed }, true, []string{"policies[0].on_store_failure"}, "and has no closed"},
		{"reconciled requests", func(p *Policy) { l7(p); p.Consistency = ConsistencyReconciled }, true, []string{"policies[0].consistency"},
			"that is for packets"},
		{"leased leases", func(p *Policy) { l7(p); p.Consistency, p.Algorithm = ConsistencyLeased, AlgorithmConcurrency }, true,
			[]string{"policies[0].consistency"}, "concurrency has nothing to lease ahead: each request gets a place of its own; use one of strict, local"},
		{"word", func(p *Policy) { p.Consistency = "eventual" }, true, []string{"policies[0].consistency"}, "use one of strict, leased, reconciled, local"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := valid()
			c.change(&p)
			faults := Document{Policies: []Policy{p}}.ValidateFor(Store{Shared: c.shared})
			if got := paths(faults); !slices.Equal(got, c.paths) {
				t.Fatalf("faults %v, want %v", faults, c.paths)
			}
			if len(faults) > 0 && !strings.Contains(faults[0].Error(), c.says) {
				t.Errorf("got %q, want it to say %q", faults[0].Error(), c.says)
			}
		})
	}
}

func TestWithStore(t *testing.T) {
	const memory, none = StoreFailureLocal, StoreFailureClosed
	for _, c := range []struct {
		layer       Layer
		algorithm   Algorithm
		store       Store
		consistency Consistency
		failure     StoreFailure
	}{
		{LayerL7, AlgorithmTokenBucket, Store{}, "local", "local"},
		{LayerL7, AlgorithmTokenBucket, Store{OnFailure: none}, "local", "local"},
		{LayerKernel, AlgorithmTokenBucket, Store{}, "local", "local"},
		{LayerL7, AlgorithmTokenBucket, Store{Shared: true}, "leased", "local"},
		{LayerL7, AlgorithmTokenBucket, Store{true, memory}, "leased", "local"},
		{LayerL7, AlgorithmTokenBucket, Store{true, none}, "leased", "closed"},
		{LayerL7, AlgorithmSlidingWindow, Store{true, none}, "leased", "closed"},
		{LayerL7, AlgorithmFixedWindow, Store{true, none}, "leased", "closed"},
		{LayerL7, AlgorithmLeakyBucket, Store{true, none}, "strict", "closed"},
		{LayerL7, AlgorithmConcurrency, Store{true, none}, "strict", "closed"},
		{LayerL7, "their own", Store{true, none}, "local", "local"},
		{LayerKernel, AlgorithmTokenBucket, Store{true, none}, "reconciled", "local"},
	} {
		p := valid()
		p.Layer, p.Algorithm = c.layer, c.algorithm
		if got := p.WithStore(c.store); got.Consistency != c.consistency || got.OnStoreFailure != c.failure {
			t.Errorf("%s, %s, %+v: %s, %s", c.layer, c.algorithm, c.store, got.Consistency, got.OnStoreFailure)
		}
	}
	p := Policy{Layer: LayerL7, Algorithm: AlgorithmTokenBucket, Consistency: ConsistencyStrict, OnStoreFailure: StoreFailureOpen}
	if got := p.WithStore(Store{true, none}); got.Consistency != ConsistencyStrict || got.OnStoreFailure != StoreFailureOpen {
		t.Errorf("what was written became %s, %s", got.Consistency, got.OnStoreFailure)
	}
	p.Consistency, p.OnStoreFailure = ConsistencyLocal, ""
	if got := p.WithStore(Store{true, none}); got.OnStoreFailure != StoreFailureLocal {
		t.Errorf("local became %s without a store that it asks", got.OnStoreFailure)
	}
}

// TestDefaultsAreNeverAtFault: what WithStore fills in is in order where the rest was.
func TestDefaultsAreNeverAtFault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument().Draw(t, "document")
		store := Store{true, rapid.SampledFrom([]StoreFailure{"", StoreFailureLocal, StoreFailureClosed}).Draw(t, "failure")}
		if rapid.Bool().Draw(t, "none") {
			store.Shared = false
		}
		if d.ValidateFor(store) != nil {
			return // it asks for a store
		}
		filled := d.WithStore(store)
		if faults := filled.ValidateFor(store); faults != nil {
			t.Fatalf("%v", faults)
		}
		for i, p := range filled.Policies {
			if p.Consistency == "" || p.OnStoreFailure == "" {
				t.Fatalf("not filled in: %+v", p)
			}
			if was := d.Policies[i].Consistency; was != "" && p.Consistency != was {
				t.Fatalf("%s became %s", was, p.Consistency)
			}
		}
	})
}

// TestJSONKeepsWhatNobodyWrote: a document that is sent to a node with a store must not say "local" for who did not.
func TestJSONKeepsWhatNobodyWrote(t *testing.T) {
	var p Policy
	const text = `{"name":"a","scope":"per_user","limit":1,"window":"1s"`
	if err := json.Unmarshal([]byte(text+"}"), &p); err != nil || p.Consistency != "" || p.OnStoreFailure != "" {
		t.Fatalf("%v, %+v", err, p)
	}
	data, err := json.Marshal(Policy{Name: "a", Window: time.Second}.WithDefaults())
	if err != nil || strings.Contains(string(data), "consistency") || strings.Contains(string(data), "on_store_failure") {
		t.Errorf("%v, %s", err, data)
	}
	for _, field := range []string{"consistency", "on_store_failure"} {
		err := json.Unmarshal([]byte(text+`,"`+field+`":""}`), &p)
		if err == nil || err.Error() != field+": must not be empty; write a value or leave the field out" {
			t.Errorf("%s: %v", field, err)
		}
		if err := json.Unmarshal([]byte(text+`,"`+field+`":1}`), &p); err == nil {
			t.Errorf("%s: a number was read", field)
		}
	}
}
