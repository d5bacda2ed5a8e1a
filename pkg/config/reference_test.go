package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

// The example of docs/CONFIG.md is a file that the tests read, and load into the kernel (test/progrun). After a change:
// go test ./pkg/config -run Reference -update.
func TestReferenceShowsTheFile(t *testing.T) {
	const begin, end = "<!-- testdata/config/good/every-field.yaml -->\n```yaml\n", "```\n"
	page := filepath.Join("..", "..", "docs", "CONFIG.md")
	example, err := os.ReadFile(filepath.Join(corpus, "good", "every-field.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	shown, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no block %q", page, begin)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+string(example)+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != string(example) {
		t.Errorf("%s shows another text than the file (run: go test ./pkg/config -run Reference -update)", page)
	}
}

// Every field that weir reads has to be told of.
func TestReferenceKnowsEveryField(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "CONFIG.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range policyFields(&policy.Policy{}) {
		if !strings.Contains(string(text), "`"+f.name+"`") {
			t.Errorf("docs/CONFIG.md says nothing of %s", f.name)
		}
	}
}
