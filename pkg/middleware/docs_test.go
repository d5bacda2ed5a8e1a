package middleware

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestDocumentIsTheExamples: the code of the document is in the examples, which run, and its bodies are what is
// written.
func TestDocumentIsTheExamples(t *testing.T) {
	document := read(t, "../../docs/MIDDLEWARE.md")
	code := flat(read(t, "example_test.go") + read(t, "grpclimit/example_test.go") + read(t, "../server/proxy/example_test.go") +
		read(t, "../limiter/example_test.go"))
	blocks := 0
	for _, part := range strings.Split(document, "```go\n")[1:] {
		blocks++
		block, _, _ := strings.Cut(part, "```")
		if !strings.Contains(code, flat(block)) {
			t.Errorf("no example has\n%s", block)
		}
	}
	if blocks == 0 {
		t.Error("the document has no code")
	}
	res := exceeded()
	for _, body := range [][]byte{append(NewErrorBody(&res).AppendJSON(nil), '\n'), appendProblem(nil, newProblem(&res, 429))} {
		if !bytes.Contains([]byte(document), body) {
			t.Errorf("the document does not have\n%s", body)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// flat is code without indentation.
func flat(code string) string {
	lines := strings.Split(code, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}
