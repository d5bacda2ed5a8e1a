package server

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

var update = flag.Bool("update", false, "write the answers into docs/API.md")

// volatile are the parts of answers that differ from time to time, and what stands for them in comparisons.
var volatile = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`"(reset|average_latency_ms|delay|reset_after_ns)":[0-9.e+-]+`), `"$1":N`},
	{regexp.MustCompile(`"(lease|since)":"[^"]*"`), `"$1":"..."`},
	{regexp.MustCompile(`(X-Ratelimit-Reset|Date): [^\r\n]*`), `$1: ...`},
	{regexp.MustCompile(`\s+`), ``}, // long answers are wrapped in the page
}

func masked(answer string) string {
	for _, v := range volatile {
		answer = v.pattern.ReplaceAllString(answer, v.stands)
	}
	return answer
}

// TestReferenceRuns runs every command of docs/API.md by a shell and curl, and compares what they print. After a
// change: go test ./pkg/server -run Reference -update.
func TestReferenceRuns(t *testing.T) {
	t.Parallel()
	page := filepath.Join("..", "..", "docs", "API.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	r := startReference(t, string(text))
	lease := regexp.MustCompile(`"lease":"[^"]*"`)
	last := "" // the lease that was answered last
	run := func(command string) string {
		shown := strings.ReplaceAll(command, "http://127.0.0.1:8080", r.url)
		if last != "" {
			shown = lease.ReplaceAllString(shown, last)
		}
		var stderr bytes.Buffer
		c := exec.CommandContext(t.Context(), "sh", "-c", shown)
		c.Env, c.Stderr = append(os.Environ(), "TOKEN="+testToken), &stderr
		out, err := c.Output()
		if err != nil {
			t.Errorf("%s: %v: %s (this needs curl: see scripts/deps.sh)", command, err, &stderr)
		}
		if found := lease.FindString(string(out)); found != "" {
			last = found
		}
		return strings.ReplaceAll(strings.TrimSpace(string(out)), "\r\n", "\n")
	}
	commands := 0
	block := regexp.MustCompile("(?s)```console\n(.*?)```\n")
	after := block.ReplaceAllStringFunc(string(text), func(whole string) string {
		var out strings.Builder
		out.WriteString("```console\n")
		for _, e := range strings.Split("\n"+block.FindStringSubmatch(whole)[1], "\n$ ")[1:] {
			command, want, _ := strings.Cut(e, "\n")
			got := run(command)
			commands++
			diff := cmp.Diff(masked(want), masked(got))
			if diff == "" {
				got = strings.TrimSuffix(want, "\n") // as somebody has wrapped it
			} else if !*update {
				t.Errorf("$ %s\nanswers\n%s\nwhich the page does not show (run: go test ./pkg/server -run Reference -update)\n%s", command, got, diff)
			}
			out.WriteString("$ " + command + "\n")
			if got != "" {
				out.WriteString(got + "\n")
			}
		}
		return out.String() + "```\n"
	})
	if commands < 20 {
		t.Errorf("%d commands, want those of the page", commands)
	}
	if *update {
		if err := os.WriteFile(page, []byte(after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Every field that is answered to what is allowed has to be told of.
func TestReferenceKnowsEveryAnswer(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "API.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[CheckAnswer]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[CheckAnswer]().Field(i).Tag.Get("json"), ",")
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/API.md says nothing of %s", name)
		}
	}
}

// startReference serves the policies that the page shows.
func startReference(t *testing.T, text string) *running {
	t.Helper()
	_, rest, found := strings.Cut(text, "```json\n")
	document, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/API.md shows no policies")
	}
	token, err := ReadToken(tokenFile(t, testToken, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	// A clock by which every read is a microsecond later: what is told in seconds does not depend on how busy the
	// machine is.
	var reads atomic.Int64
	l := newLimiterAt(t, document, func() limiter.Instant {
		const begun = 1_000_000 * time.Hour
		at := begun + time.Duration(reads.Add(1))*time.Microsecond
		return limiter.Instant{Ticks: bucket.AtNanoseconds(uint64(at)), Unix: at}
	})
	return startWith(t, Options{Checker: l, Identity: newResolver(t), Figures: l, Buckets: l, Token: func() Token { return token }})
}
