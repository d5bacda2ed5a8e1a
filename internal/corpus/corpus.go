// Package corpus tests readers by directories of files that they accept and that they refuse, the latter each
// with the whole message beside it.
package corpus

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Update is the flag -update of tests.
var Update = flag.Bool("update", false, "rewrite what is compared, such as the .err files of the corpus; read the difference before you commit it")

// fewest is how many faulty files a corpus has at least.
const fewest = 40

// Corpus is a directory with the directories "good" and "bad".
type Corpus string

// Names returns the files of a directory with the extension, without it.
func (c Corpus) Names(t testing.TB, dir, extension string) []string {
	t.Helper()
	paths, err := filepath.Glob(c.Path(dir, "*"+extension))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no %s files in %s: the corpus is missing", extension, c.Path(dir, ""))
	}
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(path), extension)
	}
	return paths
}

// Path is where a file of a directory is.
func (c Corpus) Path(dir, file string) string { return filepath.Join(string(c), dir, file) }

// Read returns what is in a file of a directory.
func (c Corpus) Read(t testing.TB, dir, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(c.Path(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// CheckBad holds what refuse says to every faulty file with the extension against the message beside it, and
// fails if a file has no message or a message no file.
func (c Corpus) CheckBad(t *testing.T, extension string, refuse func(t *testing.T, file string, data []byte) string) {
	t.Helper()
	files := c.Names(t, "bad", extension)
	if len(files) < fewest {
		t.Errorf("only %d faulty files: the corpus is missing", len(files))
	}
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			got := refuse(t, name+extension, c.Read(t, "bad", name+extension))
			if got == "" {
				t.Fatal("accepted")
			}
			got += "\n"
			if *Update {
				if err := os.WriteFile(c.Path("bad", name+".err"), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(c.Read(t, "bad", name+".err")); got != want {
				t.Errorf("message differs\n got: %s\nwant: %s", got, want)
			}
		})
	}
	if messages := c.Names(t, "bad", ".err"); !slices.Equal(files, messages) {
		t.Errorf("files and messages do not pair up:\n%v\n%v", files, messages)
	}
}
