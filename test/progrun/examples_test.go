package progrun

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// exampleFiles are those that people start from, and the one that docs/CONFIG.md shows.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples, %v: they are missing", len(files), err)
	}
	return append(files, "../../testdata/config/good/every-field.yaml")
}

// Each file is one that the kernel takes: at every interface and hook that it names.
func TestExamplesLoad(t *testing.T) {
	testutil.RequireRoot(t)
	for _, file := range exampleFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range c.Interfaces {
				at := policy.Place{Interface: i.Name, Direction: i.Hook.Direction()}
				want := policy.KernelPoliciesAt(c.Policies, at)
				s, err := loader.LoadStandalone(loader.StandaloneOptions{
					Hook: loader.Hook(i.Hook), Policies: want, Allow: c.Allow, Deny: c.Deny, TableEntries: int(c.Table.Entries),
				})
				if err != nil {
					t.Fatalf("%s %s: %v", i.Name, i.Hook, err)
				}
				if got := len(s.Policies()); got != len(want) || got == 0 {
					t.Errorf("%s %s: %d policies are loaded, want %d, and some", i.Name, i.Hook, got, len(want))
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// local is a document in which every node is for itself.
func local(doc policy.Document) policy.Document {
	doc.Policies = slices.Clone(doc.Policies)
	for i := range doc.Policies {
		doc.Policies[i].Consistency, doc.Policies[i].OnStoreFailure = policy.ConsistencyLocal, policy.StoreFailureLocal
	}
	return doc
}

// Each file is one that layer 7 takes, and one for each layer is among them.
func TestExamplesLimitRequests(t *testing.T) {
	of := map[policy.Layer]int{}
	for _, file := range exampleFiles(t) {
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		l, err := limiter.New(limiter.Options{Entries: limiter.MinEntries})
		if err != nil {
			t.Fatal(err)
		}
		doc := c.Document()
		if c.Redis != nil { // which is not there: its consistencies are for pkg/config's tests
			doc = local(doc)
		}
		if err := l.Replace(doc); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if got, want := l.Stats(t.Context()).ActivePolicies, len(policy.L7Policies(c.Policies)); got != want {
			t.Errorf("%s: %d policies of layer 7 are in force, want %d", file, got, want)
		}
		for _, p := range c.Policies {
			of[p.Layer]++
		}
	}
	if of[policy.LayerKernel] == 0 || of[policy.LayerL7] == 0 {
		t.Errorf("policies by layer: %v, want some of each", of)
	}
}

// A policy is of no use that is at no place, or whose sources are all on a list that is asked before.
func TestExamplesLimitSomething(t *testing.T) {
	for _, file := range exampleFiles(t) {
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Policies {
			if p.Mode == policy.ModeOff {
				continue
			}
			somewhere := p.Layer == policy.LayerL7 || slices.ContainsFunc(c.Interfaces, func(i config.Interface) bool {
				at := policy.Place{Interface: i.Name, Direction: i.Hook.Direction()}
				return len(policy.KernelPoliciesAt([]policy.Policy{p}, at)) == 1
			})
			if !somewhere {
				t.Errorf("%s: policy %s is at no interface and hook of the file", file, p.Name)
			}
			lists := policy.Lists{Allow: c.Allow, Deny: c.Deny}
			listed := func(source netip.Prefix) bool {
				list, by := lists.Judge(source.Addr())
				return list != policy.ListNone && by.Bits() <= source.Bits()
			}
			if s := p.Match.Sources; len(s) > 0 && !slices.ContainsFunc(s, func(source netip.Prefix) bool { return !listed(source) }) {
				t.Errorf("%s: the lists decide over every source of policy %s", file, p.Name)
			}
		}
	}
}
