package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestValidateSet(t *testing.T) {
	named := func(name string) Policy { p := valid(); p.Name = name; return p }
	twice := []Policy{named("a"), named("b"), named("a"), named("a")}
	faults := ValidateSet(twice)
	if got := paths(faults); !slices.Equal(got, []string{"policies[2].name", "policies[3].name"}) {
		t.Fatalf("got %v", faults)
	}
	if faults[1].Earlier != "policies[0].name" {
		t.Errorf("the earlier one is %q", faults[1].Earlier)
	}

	replacing := []Policy{named("a"), named("b")}
	replacing[1].Mode, replacing[1].Replaces = ModeOff, []string{"a", "c", "b"}
	if got := paths(ValidateSet(replacing)); !slices.Equal(got, []string{"policies[1].replaces[1]", "policies[1].replaces[2]"}) {
		t.Errorf("replaces: got %v", got)
	}

	policies := func(change func(p []Policy)) []Policy {
		p := []Policy{named("a"), named("b"), named("c")}
		change(p)
		return p
	}
	for _, c := range []struct {
		name     string
		policies []Policy
		paths    []string
	}{
		{"chain", policies(func(p []Policy) { p[0].Replaces, p[1].Replaces = []string{"b", "c"}, []string{"c"} }), nil},
		{"twice", policies(func(p []Policy) { p[0].Replaces = []string{"b", "c", "b"} }), []string{"policies[0].replaces[2]"}},
		{"pair", policies(func(p []Policy) { p[0].Replaces, p[1].Replaces = []string{"b"}, []string{"a"} }), []string{"policies[1].replaces[0]"}},
		{"circle", policies(func(p []Policy) {
			p[0].Replaces, p[1].Replaces, p[2].Replaces = []string{"b"}, []string{"c"}, []string{"b", "a"}
		}), []string{"policies[2].replaces[0]", "policies[2].replaces[1]"}},
		{"circle that is off", policies(func(p []Policy) {
			p[0].Replaces, p[1].Replaces, p[1].Mode = []string{"b"}, []string{"a"}, ModeOff
		}), nil},
		{"layer", policies(func(p []Policy) {
			p[0].Replaces, p[1].Scope, p[1].Layer = []string{"b"}, ScopePerUser, LayerL7
		}), []string{"policies[0].replaces[0]"}},
		{"layer that is off", policies(func(p []Policy) {
			p[0].Replaces, p[1].Scope, p[1].Layer, p[1].Mode = []string{"b"}, ScopePerUser, LayerL7, ModeOff
		}), nil},
	} {
		if got := paths(ValidateSet(c.policies)); !slices.Equal(got, c.paths) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.paths)
		}
	}

	inner := []Policy{named("a"), named("b")}
	inner[1].Limit, inner[1].Burst = MaxRequestRate+1, 1
	faults = ValidateSet(inner)
	if got := paths(faults); !slices.Equal(got, []string{"policies[1].limit"}) {
		t.Fatalf("inner: got %v", faults)
	}
	if !slices.Equal(faults[0].Needs, []string{"policies[1].window", "policies[1].unit"}) {
		t.Errorf("inner: needs %v", faults[0].Needs)
	}
	if faults := ValidateSet(nil); faults != nil {
		t.Errorf("no policies: %v", faults)
	}
}

func TestKernelTakes64(t *testing.T) {
	var many []Policy
	for i := range 70 {
		p := valid()
		p.Name = fmt.Sprint("p", i)
		if i < 3 {
			p.Mode = ModeOff // does not count
		}
		many = append(many, p)
	}
	if faults := ValidateSet(many[:67]); faults != nil {
		t.Errorf("64: %v", faults)
	}
	if got := paths(ValidateSet(many)); !slices.Equal(got, []string{"policies[67]"}) {
		t.Errorf("67: %v", got)
	}
}

func TestKernelPoliciesOrder(t *testing.T) {
	var given []Policy
	for _, p := range []struct {
		name     string
		mode     Mode
		priority int
		layer    Layer
	}{
		{"shadow-high", ModeShadow, 9, LayerKernel},
		{"first", ModeEnforce, 1, LayerKernel},
		{"off", ModeOff, 9, LayerKernel},
		{"second", ModeEnforce, 1, LayerKernel},
		{"l7", ModeEnforce, 9, LayerL7},
		{"high", ModeEnforce, 2, LayerKernel},
		{"low", ModeEnforce, -1, LayerKernel},
		{"shadow-low", ModeShadow, 0, LayerKernel},
	} {
		given = append(given, Policy{Name: p.name, Mode: p.mode, Priority: p.priority, Layer: p.layer})
	}
	before := slices.Clone(given)
	var got []string
	for _, p := range KernelPolicies(given) {
		got = append(got, p.Name)
	}
	want := []string{"high", "first", "second", "low", "shadow-high", "shadow-low"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !slices.EqualFunc(before, given, func(a, b Policy) bool { return a.Name == b.Name }) {
		t.Error("the argument was reordered")
	}
}

func TestDefaults(t *testing.T) {
	for scope, want := range map[Scope]struct {
		priority int
		layer    Layer
	}{
		ScopePerIP: {0, LayerKernel}, ScopePerUser: {2, LayerL7}, ScopePerAPIKey: {3, LayerL7},
		ScopePerEndpoint: {1, LayerL7}, ScopeGlobal: {0, LayerL7}, ScopeCustom: {0, LayerL7},
	} {
		p := Policy{Scope: scope, Limit: 7}.WithDefaults()
		if p.Priority != want.priority || p.Layer != want.layer || p.Burst != 7 {
			t.Errorf("%s: got %+v", scope, p)
		}
	}
	if p := (Policy{Scope: ScopePerIP, Match: Match{Roles: []string{"a"}}}).WithDefaults(); p.Layer != LayerL7 {
		t.Errorf("per_ip with a role: layer %s", p.Layer)
	}
	if p := (Policy{Scope: ScopePerIP, Match: Match{Ports: []PortRange{{1, 1}}}}).WithDefaults(); p.Layer != LayerKernel {
		t.Errorf("per_ip with a port: layer %s", p.Layer)
	}
}

func TestRate(t *testing.T) {
	for want, p := range map[string]Policy{
		"1000/s":        {Limit: 1000, Window: time.Second},
		"10/min":        {Limit: 10, Window: time.Minute},
		"1/h":           {Limit: 1, Window: time.Hour},
		"5/day":         {Limit: 5, Window: day},
		"5/30d":         {Limit: 5, Window: 30 * day},
		"100/10s":       {Limit: 100, Window: 10 * time.Second},
		"100/1h30m":     {Limit: 100, Window: 90 * time.Minute},
		"100/36h":       {Limit: 100, Window: 36 * time.Hour},
		"1/0s":          {Limit: 1},
		"0/s":           {Window: time.Second},
		"5 MB/s":        {Limit: 5_000_000, Window: time.Second, Unit: UnitBytes},
		"1.5 kB/s":      {Limit: 1500, Window: time.Second, Unit: UnitBytes},
		"1.005 GB/min":  {Limit: 1_005_000_000, Window: time.Minute, Unit: UnitBytes},
		"1000.001 kB/s": {Limit: 1_000_001, Window: time.Second, Unit: UnitBytes},
		"999 B/s":       {Limit: 999, Window: time.Second, Unit: UnitBytes},
		"50 GB/s":       {Limit: 50_000_000_000, Window: time.Second, Unit: UnitBytes},
	} {
		if got := p.Rate(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
