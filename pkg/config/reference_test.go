package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/corpus"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The examples of docs/CONFIG.md are files that the tests read; that of the kernel path is loaded into the kernel as well
// (test/progrun). After a change: go test ./pkg/config -run Reference -update.
func TestReferenceShowsTheFiles(t *testing.T) {
	for _, name := range []string{"every-field.yaml", "every-field-l7.yaml", "every-field-redis.yaml"} {
		t.Run(name, func(t *testing.T) { checkShown(t, name) })
	}
}

func checkShown(t *testing.T, name string) {
	const end = "```\n"
	begin := "<!-- testdata/config/good/" + name + " -->\n```yaml\n"
	page := filepath.Join("..", "..", "docs", "CONFIG.md")
	example, err := os.ReadFile(files.Path("good", name))
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
	if *corpus.Update {
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
	var server Server
	for of, fields := range map[string][]field{
		"":         policyFields(&policy.Policy{}),
		"match":    matchFields(&policy.Match{}),
		"table":    (&Table{}).fields(),
		"server":   server.fields(),
		"identity": server.Identity.fields(),
		"jwt":      (&JWT{}).fields(),
		"redis":    (&Redis{}).fields(),
		"fallback": (&Fallback{}).fields(),
	} {
		for _, f := range fields {
			if slices.Contains([]string{"table", "server", "redis", "fallback"}, of) {
				f.name = of + "." + f.name
			}
			if !strings.Contains(string(text), "`"+f.name+"`") {
				t.Errorf("docs/CONFIG.md says nothing of %s of %s", f.name, of)
			}
		}
	}
	for _, a := range policy.Algorithms() {
		if !strings.Contains(string(text), "| `"+string(a)+"` |") {
			t.Errorf("docs/CONFIG.md has no line for algorithm %s", a)
		}
	}
}

// The example of layer 7 has every field of it.
func TestExampleHasEveryField(t *testing.T) {
	example, err := os.ReadFile(files.Path("good", "every-field-l7.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var server Server
	kernel := []string{"protocol", "ports", "interfaces", "direction"}
	for _, f := range slices.Concat(matchFields(&policy.Match{}), server.fields(), server.Identity.fields()) {
		if !slices.Contains(kernel, f.name) && !strings.Contains(string(example), " "+f.name+":") {
			t.Errorf("the example has no %s", f.name)
		}
	}
}

// The example of many nodes has every field of it, those of sentinels and TLS in a comment.
func TestExampleHasEveryFieldOfRedis(t *testing.T) {
	example, err := os.ReadFile(files.Path("good", "every-field-redis.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range slices.Concat((&Redis{}).fields(), (&Sentinel{}).fields(), (&TLS{}).fields(), (&Fallback{}).fields(), (&Breaker{}).fields(), (&Alert{}).fields()) {
		if !strings.Contains(string(example), f.name+":") {
			t.Errorf("the example has no %s", f.name)
		}
	}
}
