package rules

import (
	"slices"
	"testing"

	"github.com/weir-limiter/weir/internal/corpus"
	"github.com/weir-limiter/weir/internal/yamlfile/yamltest"
)

const files = corpus.Corpus("../../../../testdata/rls")

func TestBadFiles(t *testing.T) {
	files.CheckBad(t, ".yaml", func(t *testing.T, file string, data []byte) string {
		set, err := Parse(file, data)
		checkRefusal(t, set, err)
		return err.Error()
	})
}

func checkRefusal(t *testing.T, set *Set, err error) {
	t.Helper()
	if set != nil {
		t.Errorf("refused, and made %v", set)
	}
	yamltest.CheckFaults(t, err, maxMessages)
}

func TestGoodFilesHaveNoWarnings(t *testing.T) {
	for _, name := range files.Names(t, "good", ".yaml") {
		set, err := Parse(name+".yaml", files.Read(t, "good", name+".yaml"))
		if err != nil || len(set.Warnings) > 0 || len(set.Limits) == 0 {
			t.Errorf("%s: %v %+v", name, err, set)
		}
	}
}

// FuzzParse checks that no file makes Parse panic, and that what it accepts is consistent.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, name := range files.Names(f, dir, ".yaml") {
			if name == "alias-bomb" {
				continue // what is made of it takes the fuzzer half a second each
			}
			f.Add(files.Read(f, dir, name+".yaml"))
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
