package rules

import (
	"os"
	"strings"
	"testing"
)

// TestReferenceIsTheFile holds the text of docs/RLS.md to a file that is read without a warning.
func TestReferenceIsTheFile(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/RLS.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "<!-- testdata/rls/good/reference.yaml -->\n```yaml\n" + string(files.Read(t, "good", "reference.yaml")) + "```\n"
	if !strings.Contains(string(doc), want) {
		t.Error("docs/RLS.md does not have testdata/rls/good/reference.yaml as it is")
	}
	d := good(t, "reference").Domain("front")
	for _, name := range elsewhere {
		if !strings.Contains(string(doc), name) {
			t.Errorf("docs/RLS.md does not mention %s", name)
		}
	}
	for _, e := range [][]*entry{
		entries("remote_address", "192.0.2.1"), entries("path", "/api/x"), entries("plan", "gold", "user", "ann"),
		entries("user", "staff"), entries("user", "ann"), entries("tenant", "t"),
	} {
		if l, _ := d.Find(e, nil); l == nil {
			t.Errorf("no limit for %v", e)
		}
	}
}
