package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// ProgramCost is what the verifier says of a program, loaded with so many policies.
type ProgramCost struct {
	Program  string `json:"program"`
	Hook     string `json:"hook"`
	Policies int    `json:"policies"`
	// Instructions is how many are left of the program when the verifier has taken out what is never reached, and Processed how
	// many it walked to see that they are safe; it gives up at a million.
	Instructions int `json:"instructions"`
	Processed    int `json:"processed_instructions"`
	// Stack is the depth of each function's stack in bytes, the entry point first: "136+0+48". The kernel allows 512 for a chain of calls.
	Stack string `json:"stack_depth"`
}

// runVerifier loads the program of each hook with no policy to as many as there can be.
func (r *runner) runVerifier(ctx context.Context) error {
	for _, hook := range loader.Hooks() {
		for _, n := range []int{0, 1, 8, loader.MaxPolicies} {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			costs, err := programCosts(hook, n)
			if err != nil {
				return fmt.Errorf("%s, %s, %d policies: %w", sectionVerifier, hook, n, err)
			}
			r.report.Programs = append(r.report.Programs, costs...)
		}
	}
	return nil
}

// programCosts has the verifier look at every program of the hook's object once more, with its statistics. The constants, on
// which all depends, are those of a program that the loader has loaded.
func programCosts(hook loader.Hook, policies int) (_ []ProgramCost, err error) {
	w, err := loader.LoadStandalone(loader.StandaloneOptions{Hook: hook, Policies: mixedAt(hook, policies), TableEntries: 1 << 10})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	constants, err := constantsOf(w.Program())
	if err != nil {
		return nil, err
	}
	spec, err := loader.ObjectsOf(hook)
	if err != nil {
		return nil, err
	}
	for _, v := range spec.Variables {
		if v.SectionName == constantsMap {
			v.Value = constants[v.Offset : v.Offset+v.Size()]
		}
	}
	if _, err := adaptToKernel(spec); err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	if err != nil {
		return nil, fmt.Errorf("load the program with the verifier's statistics: %w", err)
	}
	defer coll.Close()
	var costs []ProgramCost
	for _, name := range slices.Sorted(maps.Keys(coll.Programs)) {
		c, err := costOf(coll.Programs[name])
		if err != nil {
			return nil, err
		}
		c.Program, c.Hook, c.Policies = name, string(hook), policies
		costs = append(costs, c)
	}
	return costs, nil
}

// mixedAt are mixed, of which some pace where that can be.
func mixedAt(hook loader.Hook, n int) []policy.Policy {
	policies := mixed(n)
	for i := range policies {
		if hook == loader.HookTCEgress && i%3 == 0 && policies[i].NewSources == nil {
			policies[i].Action = policy.ActionPace
		}
	}
	return policies
}

func costOf(p *ebpf.Program) (c ProgramCost, err error) {
	info, err := p.Info()
	if err != nil {
		return c, fmt.Errorf("read the program's description: %w", err)
	}
	size, err := info.TranslatedSize()
	if err != nil {
		return c, fmt.Errorf("read the program's size: %w", err)
	}
	c.Instructions = size / asm.InstructionSize
	c.Processed, c.Stack, err = verifierStatistics(p.VerifierLog)
	return c, err
}

// constantsMap is the map of a program's constants, in every object that a C compiler makes.
const constantsMap = ".rodata"

// constantsOf reads the constants of a loaded program.
func constantsOf(p *ebpf.Program) ([]byte, error) {
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("read the program's description: %w", err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, fmt.Errorf("open a map of the program: %w", err)
		}
		value, found, err := constantsIn(m)
		if found || err != nil {
			return value, err
		}
	}
	return nil, errors.New("the program has no constants")
}

// constantsIn closes the map.
func constantsIn(m *ebpf.Map) (value []byte, found bool, err error) {
	defer m.Close()
	info, err := m.Info()
	if err != nil || info.Name != constantsMap {
		return nil, false, err
	}
	value, err = m.LookupBytes(uint32(0))
	return value, true, err
}

var (
	stackLine     = regexp.MustCompile(`(?m)^stack depth ([0-9+]+)`)
	processedLine = regexp.MustCompile(`(?m)^processed (\d+) insns`)
)

// verifierStatistics reads the last lines of a verifier's log.
func verifierStatistics(log string) (processed int, stack string, err error) {
	p, s := processedLine.FindStringSubmatch(log), stackLine.FindStringSubmatch(log)
	if p == nil || s == nil {
		return 0, "", fmt.Errorf("no statistics in the verifier's log: %q", strings.TrimSpace(log))
	}
	_, err = fmt.Sscan(p[1], &processed)
	return processed, s[1], err
}
