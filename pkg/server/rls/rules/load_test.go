package rules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes files in a new directory: pairs of name and text.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const one = "domain: one\ndescriptors: [{key: k, rate_limit: {unit: day, requests_per_unit: 1}}]\n"

func TestLoadDirectory(t *testing.T) {
	dir := write(t, "a.yaml", one, "deep/b.yml", strings.ReplaceAll(one, "one", "two"),
		"README", "no YAML: [", ".hidden.yaml", one, "..data/a.yaml", one)
	extra := write(t, "rules.conf", strings.ReplaceAll(one, "one", "three"))
	// A file that is named twice is read once, and one that is named itself may have any extension.
	set, err := Load(dir, filepath.Join(dir, "a.yaml"), filepath.Join(extra, "rules.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for i, domain := range []string{"one", "two", "three"} {
		if set.Domain(domain) == nil || set.Limits[i].Path != domain+".k" || set.Limits[i].ID != i {
			t.Errorf("%s: %+v", domain, set.Limits[i])
		}
	}
}

// TestLoadConfigMap reads a directory as Kubernetes mounts it: links to files behind a directory with dots.
func TestLoadConfigMap(t *testing.T) {
	dir := write(t, "..2026/limits.yaml", one)
	for link, to := range map[string]string{"..data": "..2026", "limits.yaml": "..data/limits.yaml"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "..data"), filepath.Join(dir, "limits.yaml")} {
		if set, err := Load(path); err != nil || len(set.Limits) != 1 {
			t.Errorf("%s: %+v %v", path, set, err)
		}
	}
}

func TestLoadFaults(t *testing.T) {
	twice := write(t, "a.yaml", one, "b.yaml", "# another\n"+one)
	big := write(t, "big.yaml", one+"#"+strings.Repeat("x", MaxFileSize))
	for _, c := range []struct{ name, path, want string }{
		{"missing", "/nowhere/rls", "no such file or directory (name a file or a directory"},
		{"no files", write(t, "README", "x"), "has no .yaml or .yml file"},
		{"duplicate domain", twice, `b.yaml:2:9: domain "one" is in ` + filepath.Join(twice, "a.yaml") + `:1 already; put all`},
		{"large", big, "big.yaml:1:1: the file is larger than 4194304 bytes"},
		{"device", "/dev/zero", "is no regular file"},
	} {
		set, err := Load(c.path)
		if err == nil || set != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %v, want %q", c.name, set, err, c.want)
		}
	}
	if _, err := Load("/nowhere/rls"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the operating system's error is lost: %v", err)
	}
	var many []string
	for i := range 2 * maxMessages {
		many = append(many, strings.Repeat("a", i+1)+": 1")
	}
	_, err := Parse("many", []byte(strings.Join(many, "\n")))
	if all, ok := errors.AsType[Errors](err); !ok || len(all) != maxMessages {
		t.Errorf("%d faults are told", len(all))
	}
}

func TestWarnings(t *testing.T) {
	set, err := Parse("w", []byte(`domain: d
descriptors:
  - key: a
    rate_limit:
      unit: day
      requests_per_unit: 5
      shadow_mode: true
  - key: b
    shadow_mode: true
  - key: c
    rate_limit:
  - key: d
    rate_limit: {unit: day}
`))
	want := []string{
		"w:7:7: shadow_mode has no effect in rate_limit; move it to where it belongs or remove it",
		"w:8:5: shadow_mode and quota_mode have no effect on a descriptor without rate_limit; move them to the one that has it",
		"w:11:16: rate_limit has nothing in it, so there is no limit; remove it or give it a unit",
		`w:13:5: rate_limit has no requests_per_unit, so it denies everything; write "requests_per_unit: 0" if that is wanted`,
	}
	if err != nil || !slices.Equal(set.Warnings, want) {
		t.Errorf("%v\n%s", err, strings.Join(set.Warnings, "\n"))
	}
	if set.Limits[0].Shadow {
		t.Error("shadow_mode in the wrong place has an effect")
	}
}

func TestUnits(t *testing.T) {
	set := good(t, "units")
	for i, want := range []struct {
		unit  string
		hours float64
	}{{"WEEK", 168}, {"MONTH", 720}, {"YEAR", 8760}} {
		if l := set.Limits[i]; l.Unit.String() != want.unit || Window(l.Unit).Hours() != want.hours {
			t.Errorf("%+v", l)
		}
	}
	if Window(0) != 0 {
		t.Error("there is a window of no unit")
	}
}

func TestLoadAllGoodFilesTogether(t *testing.T) {
	set, err := Load(files.Path("good", ""))
	if err != nil || len(set.domains) != len(files.Names(t, "good", ".yaml")) {
		t.Fatalf("%+v %v", set, err)
	}
}
