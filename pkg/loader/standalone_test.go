package loader

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Each dimension puts code into the program that is not there without it: the verifier has to take it at every hook.
func TestEveryDimensionLoadsAtEveryHook(t *testing.T) {
	testutil.RequireRoot(t)
	base := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Layer: policy.LayerKernel, Limit: 10, Window: time.Second}
	for name, change := range map[string]func(*policy.Policy){
		"per_ip":       func(*policy.Policy) {},
		"per_endpoint": func(p *policy.Policy) { p.Scope = policy.ScopePerEndpoint },
		"global":       func(p *policy.Policy) { p.Scope = policy.ScopeGlobal },
		"protocol":     func(p *policy.Policy) { p.Match.Protocol = "udp" },
		"ports":        func(p *policy.Policy) { p.Match.Ports = []policy.PortRange{{First: 53, Last: 53}} },
		"bytes":        func(p *policy.Policy) { p.Unit, p.Limit = policy.UnitBytes, 1e6 },
		"shadow":       func(p *policy.Policy) { p.Mode = policy.ModeShadow },
		"new_sources":  func(p *policy.Policy) { p.NewSources = &policy.NewSources{Limit: 10, Window: time.Second} },
	} {
		for _, hook := range Hooks() {
			t.Run(name+"/"+string(hook), func(t *testing.T) {
				p := base
				change(&p)
				s, err := LoadStandalone(StandaloneOptions{Hook: hook, Policies: []policy.Policy{p.WithDefaults()}, TableEntries: 64})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
