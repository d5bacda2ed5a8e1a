package config

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

var update = flag.Bool("update", false, "rewrite the .err files of testdata/config/bad; read the difference before you commit it")

const corpus = "../../testdata/config"

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

// TestBadFiles holds every faulty file against the whole message beside it.
func TestBadFiles(t *testing.T) {
	for _, name := range names(t, "bad", ".yaml") {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(corpus, "bad", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := Parse(name+".yaml", data)
			if err == nil || cfg != nil {
				t.Fatalf("Parse accepted the file: %+v", cfg)
			}
			got := err.Error() + "\n"
			beside := filepath.Join(corpus, "bad", name+".err")
			if *update {
				if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(beside)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("message differs from %s\n got: %s\nwant: %s", beside, got, want)
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

// TestBadFilesNamePlaces checks what every fault must have, whatever its text.
func TestBadFilesNamePlaces(t *testing.T) {
	for _, name := range names(t, "bad", ".yaml") {
		_, err := Load(filepath.Join(corpus, "bad", name+".yaml"))
		all, ok := errors.AsType[Errors](err)
		if !ok {
			t.Fatalf("%s: not Errors but %T", name, err)
		}
		last := &Error{}
		for _, e := range all {
			if e.Line < 1 || e.Column < 1 || e.Problem == "" || e.Mend == "" || !strings.HasSuffix(e.File, name+".yaml") {
				t.Errorf("%s: incomplete fault %+v", name, e)
			}
			if e.Line < last.Line || e.Line == last.Line && e.Column < last.Column {
				t.Errorf("%s: %v stands before %v", name, last, e)
			}
			last = e
		}
		if first, ok := errors.AsType[*Error](err); !ok || first != all[0] {
			t.Errorf("%s: errors.As finds %v instead of the first fault", name, first)
		}
	}
}

// checkDocument holds that what a file asks for is valid, and can be written as JSON and read back.
func checkDocument(t *testing.T, want policy.Document) {
	t.Helper()
	if faults := want.Validate(); faults != nil {
		t.Errorf("accepted, but %v", faults)
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got policy.Document
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	compare(t, want, got)
}

func TestGoodFilesLoad(t *testing.T) {
	files := names(t, "good", ".yaml")
	if len(files) == 0 {
		t.Fatal("no files: the corpus is missing")
	}
	for _, name := range files {
		cfg, err := Load(filepath.Join(corpus, "good", name+".yaml"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkDocument(t, cfg.Document())
		if faults := cfg.Document().ValidateFor(cfg.Store()); faults != nil {
			t.Errorf("%s: filled in, and %v", name, faults)
		}
	}
}
