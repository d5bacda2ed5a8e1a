package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/pkg/config"
)

// TestPolicyCacheDirectory: a file that somebody has named and that can't be there ends the start, and the default one does not.
func TestPolicyCacheDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A prefix that makes the default path one below a file, where not even root can make a directory.
	prefix := "/../../../../.." + file + "/x"
	c := &config.Config{Redis: &config.Redis{KeyPrefix: prefix}}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	c.Fallback.PolicyCache = config.DefaultPolicyCache(prefix)
	if err := makePolicyCache(c, log); err != nil || !strings.Contains(out.String(), "policy_cache") {
		t.Errorf("the default: %v, log %q", err, &out)
	}
	c.Fallback.PolicyCache = file + "/y/policies.json"
	if err := makePolicyCache(c, log); err == nil {
		t.Error("one that was named: no error")
	}
}
