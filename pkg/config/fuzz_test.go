package config

import (
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

// FuzzParse checks that no file makes Parse panic, that what it accepts is
// valid, and that what it refuses gives no configuration and complete faults.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, name := range files.Names(f, dir, ".yaml") {
			f.Add(files.Read(f, dir, name+".yaml"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("fuzz.yaml", data)
		if err != nil {
			checkRefusal(t, cfg, err)
			return
		}
		checkDocument(t, cfg.Document())
		if n := len(policy.KernelPolicies(cfg.Policies)); n > policy.MaxKernelPolicies {
			t.Errorf("accepted with %d kernel policies", n)
		}
	})
}
