package loader

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// verifierBudget is a third of what the kernel is willing to walk: room for older kernels, whose
// verifiers prune less.
const verifierBudget = 330_000

// TestVerifierCost loads the program with up to all the policies that it can have, and shows with -v
// what the verifier walked.
func TestVerifierCost(t *testing.T) {
	testutil.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 2, 8, MaxPolicies} {
		walked := verify(t, n)
		t.Logf("%2d policies: %d instructions walked", n, walked)
		if walked > verifierBudget {
			t.Errorf("%d policies: the verifier walked %d instructions, want %d at most", n, walked, verifierBudget)
		}
	}
}

func verify(t *testing.T, n int) (walked int) {
	spec, err := ObjectsOf(HookXDP)
	if err != nil {
		t.Fatal(err)
	}
	common, err := newShared(spec, 1<<12, bucket.Secret{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	defer common.close()
	delete(spec.Maps, xdpMapIdentity)
	p, _, err := newPlan(HookXDP, ruleset{policies: mixedPolicies(n)}, common.secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.setConstants(spec, common.table().MaxEntries(), 1); err != nil {
		t.Fatal(err)
	}
	p.sizeMaps(spec, common)
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	if err != nil {
		t.Fatalf("%d policies: %+v", n, err)
	}
	defer coll.Close()
	log := coll.Programs[xdpProgWeirXdp].VerifierLog
	_, rest, _ := strings.Cut(log, "processed ")
	if _, err := fmt.Sscan(rest, &walked); err != nil {
		t.Fatalf("no count of instructions in the verifier's log: %s", log)
	}
	return walked
}

// mixedPolicies differ in all that the program branches on, so that it can leave no branch out.
func mixedPolicies(n int) []policy.Policy {
	var all []policy.Policy
	for i := range n {
		p := kernelPolicy(fmt.Sprintf("p%d", i), 2_000_000_000, 1<<20)
		p.Unit = policy.Units()[i%2]
		p.OnPressure = policy.Pressures()[i/2%2]
		if i > n/2 {
			p.Mode = policy.ModeShadow
		}
		p.IPv6Prefix = []uint8{64, 128}[i%2]
		p.Scope = []policy.Scope{policy.ScopePerIP, policy.ScopePerEndpoint, policy.ScopeGlobal}[i%3]
		if i%4 == 1 {
			p.Match.Ports = []policy.PortRange{{First: 53, Last: 53}, {First: 8000, Last: 8100}}
			p.Match.Protocol = "udp"
		}
		if i%4 == 2 {
			p.Match.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
			p.Replaces = []string{"p0"}
		}
		if i%5 == 3 && p.Scope == policy.ScopePerIP {
			p.NewSources = &policy.NewSources{Limit: 10_000, Window: time.Second}
		}
		all = append(all, p)
	}
	return all
}
