package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

// FuzzParse checks that no file makes Parse panic, that what it accepts is
// valid, and that what it refuses gives no configuration and complete faults.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, name := range names(f, dir, ".yaml") {
			data, err := os.ReadFile(filepath.Join(corpus, dir, name+".yaml"))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
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

func checkRefusal(t *testing.T, cfg *Config, err error) {
	all, ok := errors.AsType[Errors](err)
	if !ok || cfg != nil || len(all) == 0 || len(all) > maxErrors+1 {
		t.Fatalf("refused with %T of %d faults and configuration %v", err, len(all), cfg)
	}
	for _, e := range all {
		if e.Line < 1 || e.Column < 1 || e.Problem == "" || e.Mend == "" {
			t.Errorf("incomplete fault %+v", e)
		}
	}
}
