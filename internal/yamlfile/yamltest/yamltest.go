// Package yamltest has what the tests of readers of YAML files share.
package yamltest

import (
	"errors"
	"testing"

	"github.com/weir-limiter/weir/internal/yamlfile"
)

// CheckFaults checks what the faults of one file must have, whatever their text. There may be most of them.
func CheckFaults(t testing.TB, err error, most int) {
	t.Helper()
	all, ok := errors.AsType[yamlfile.Errors](err)
	if !ok || len(all) == 0 || len(all) > most {
		t.Fatalf("refused with %T of %d faults", err, len(all))
	}
	last := &yamlfile.Error{}
	for _, e := range all {
		if e.Line < 1 || e.Column < 1 || e.Problem == "" || e.Mend == "" || e.File == "" {
			t.Errorf("incomplete fault %+v", e)
		}
		if e.Line < last.Line || e.Line == last.Line && e.Column < last.Column {
			t.Errorf("%v stands before %v", last, e)
		}
		last = e
	}
	if first, ok := errors.AsType[*yamlfile.Error](err); !ok || first != all[0] {
		t.Errorf("errors.As finds %v instead of the first fault", first)
	}
}
