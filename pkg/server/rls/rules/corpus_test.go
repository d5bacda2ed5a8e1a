package rules

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the .err files of testdata/rls/bad; read the difference before you commit it")

const corpus = "../../../../testdata/rls"

// names returns the files of a corpus directory with the extension, without it.
func names(t testing.TB, dir, extension string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(corpus, dir, "*"+extension))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(path), extension)
	}
	return paths
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(corpus, dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestBadFiles holds every faulty file against the whole message beside it.
func TestBadFiles(t *testing.T) {
	for _, name := range names(t, "bad", ".yaml") {
		t.Run(name, func(t *testing.T) {
			set, err := Parse(name+".yaml", read(t, "bad", name+".yaml"))
			checkRefusal(t, set, err)
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(filepath.Join(corpus, "bad", name+".err"), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(read(t, "bad", name+".err")); got != want {
				t.Errorf("message differs\n got: %s\nwant: %s", got, want)
			}
		})
	}
}

// TestBadFilesArePaired fails if a file has no message or a message no file.
func TestBadFilesArePaired(t *testing.T) {
	files, messages := names(t, "bad", ".yaml"), names(t, "bad", ".err")
	if len(files) < 40 {
		t.Errorf("only %d faulty files: the corpus is missing", len(files))
	}
	if !slices.Equal(files, messages) {
		t.Errorf("files and messages do not pair up:\n%v\n%v", files, messages)
	}
}

// checkRefusal checks what every fault must have, whatever its text.
func checkRefusal(t *testing.T, set *Set, err error) {
	t.Helper()
	all, ok := errors.AsType[Errors](err)
	if !ok || set != nil || len(all) == 0 || len(all) > maxMessages {
		t.Fatalf("refused with %T of %d faults and %v", err, len(all), set)
	}
	last := &Error{}
	for _, e := range all {
		if e.Line < 1 || e.Column < 1 || e.Problem == "" || e.Mend == "" || e.File == "" {
			t.Errorf("incomplete fault %+v", e)
		}
		if e.Line < last.Line || e.Line == last.Line && e.Column < last.Column {
			t.Errorf("%v stands before %v", last, e)
		}
		last = e
	}
	if first, ok := errors.AsType[*Error](err); !ok || first != all[0] {
		t.Errorf("errors.As finds %v instead of the first fault", first)
	}
}

func TestGoodFilesHaveNoWarnings(t *testing.T) {
	for _, name := range names(t, "good", ".yaml") {
		set, err := Parse(name+".yaml", read(t, "good", name+".yaml"))
		if err != nil || len(set.Warnings) > 0 || len(set.Limits) == 0 {
			t.Errorf("%s: %v %+v", name, err, set)
		}
	}
}

// FuzzParse checks that no file makes Parse panic, and that what it accepts is consistent.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, name := range names(f, dir, ".yaml") {
			if name == "alias-bomb" {
				continue // what is made of it takes the fuzzer half a second each
			}
			f.Add(read(f, dir, name+".yaml"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Parse("fuzz.yaml", data)
		if err != nil {
			checkRefusal(t, set, err)
			return
		}
		for i, l := range set.Limits {
			if l.ID != i || l.Path == "" || l.Line < 1 || !l.Unlimited && Window(l.Unit) == 0 || slices.Contains(l.Replaces, "") {
				t.Errorf("accepted %+v", l)
			}
		}
	})
}
