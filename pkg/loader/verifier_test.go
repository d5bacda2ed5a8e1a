package loader

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// verifierBudget is a third of what the kernel is willing to walk: room for older kernels, whose
// verifiers prune less.
const verifierBudget = 330_000

// TestVerifierCost loads the program of each hook with up to all the policies that it can have, and shows with -v what the
// verifier walked, and the stack of each function, the entry point first. A chain of calls may have 512 bytes, each rounded up to 32 on
// older kernels: the verifier itself holds that.
func TestVerifierCost(t *testing.T) {
	testutil.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	counts := []int{0, 1, 2, 8, MaxPolicies}
	if testing.Short() { // in a virtual machine, where the verifier takes seconds
		counts = []int{1, MaxPolicies}
	}
	for _, hook := range Hooks() {
		for _, n := range counts {
			c := verify(t, hook, mixedPolicies(hook, n))
			t.Logf("%-10s %2d policies: %4d instructions, %6d walked, stack %s", hook, n, c.instructions, c.walked, c.stack)
			if c.walked > verifierBudget {
				t.Errorf("%s, %d policies: the verifier walked %d instructions, want %d at most", hook, n, c.walked, verifierBudget)
			}
		}
	}
}

// What no policy asks for is not in the program: pacing costs nothing where nobody paces, on egress no more than on ingress.
func TestVerifierLeavesPacingOut(t *testing.T) {
	testutil.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2} {
		plain, pacing := mixedPolicies(HookTCIngress, n), mixedPolicies(HookTCEgress, n)
		in, out, paced := verify(t, HookTCIngress, plain), verify(t, HookTCEgress, plain), verify(t, HookTCEgress, pacing)
		t.Logf("%d policies: %d instructions on ingress, %d on egress, %d with pacing", n, in.instructions, out.instructions, paced.instructions)
		if out.instructions > in.instructions {
			t.Errorf("%d policies: %d instructions on ingress, and %d on egress, where nobody paces", n, in.instructions, out.instructions)
		}
		if paced.instructions == out.instructions {
			t.Errorf("%d policies: the program that paces is no other", n)
		}
	}
}

// The same goes for announcements of sources: a program of local policies has none of it.
func TestVerifierLeavesReconciliationOut(t *testing.T) {
	testutil.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	for _, hook := range Hooks() {
		for _, n := range []int{1, 8, MaxPolicies} {
			policies := mixedPolicies(hook, n)
			for i := range policies {
				policies[i].Consistency = policy.ConsistencyLocal
			}
			local := verify(t, hook, policies)
			for i := range policies {
				policies[i].Consistency = policy.ConsistencyReconciled
			}
			shared := verify(t, hook, policies)
			t.Logf("%-10s %2d policies: %d instructions, %d walked, stack %s; reconciled %d, %d, %s",
				hook, n, local.instructions, local.walked, local.stack, shared.instructions, shared.walked, shared.stack)
			if local.instructions >= shared.instructions-20 {
				t.Errorf("%s, %d policies: %d instructions of local policies, %d of reconciled ones", hook, n, local.instructions, shared.instructions)
			}
			if shared.walked > verifierBudget {
				t.Errorf("%s, %d policies: the verifier walked %d instructions, want %d at most", hook, n, shared.walked, verifierBudget)
			}
		}
	}
}

// verifierCost is what the verifier says of a program.
type verifierCost struct {
	instructions int // that are left when it has taken out what is never reached
	walked       int
	stack        string // of each function, in bytes
}

// verify loads the program of a hook with these policies, and returns what the verifier says of it.
func verify(t *testing.T, hook Hook, policies []policy.Policy) (c verifierCost) {
	t.Helper()
	spec, err := ObjectsOf(hook)
	if err != nil {
		t.Fatal(err)
	}
	common, err := newShared(spec, 1<<12, bucket.Secret{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	defer common.close()
	delete(spec.Maps, xdpMapIdentity)
	p, _, err := newPlan(hook, ruleset{policies: policies}, common.secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	buffers, err := multiBuffer(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.setConstants(spec, common.table().MaxEntries(), buffers); err != nil {
		t.Fatal(err)
	}
	p.sizeMaps(spec, common)
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	if err != nil {
		t.Fatalf("%s, %d policies: %+v", hook, len(policies), err)
	}
	defer coll.Close()
	program := coll.Programs[entryPoint(spec)]
	log := program.VerifierLog
	for prefix, value := range map[string]any{"processed ": &c.walked, "stack depth ": &c.stack} {
		_, rest, _ := strings.Cut(log, prefix)
		if _, err := fmt.Sscan(rest, value); err != nil {
			t.Fatalf("no %q in the verifier's log: %s", prefix, log)
		}
	}
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	size, err := info.TranslatedSize()
	if err != nil {
		t.Fatal(err)
	}
	c.instructions = size / asm.InstructionSize
	return c
}

// mixedPolicies differ in all that the program branches on, so that it can leave no branch out.
func mixedPolicies(hook Hook, n int) []policy.Policy {
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
		if i%5 == 2 {
			p.Consistency = policy.ConsistencyReconciled
		}
		if hook == HookTCEgress && i%3 == 0 && p.NewSources == nil {
			p.Action = policy.ActionPace
		}
		all = append(all, p)
	}
	return all
}
