//go:build cgo

package privilege

import (
	"errors"
	_ "runtime/cgo" // whatever else does or does not link this test binary with it
	"testing"
)

func TestReduceUnderCgo(t *testing.T) {
	t.Parallel()
	before, err := get()
	if err != nil {
		t.Fatal(err)
	}
	if err := Reduce(); !errors.Is(err, ErrCgo) {
		t.Errorf("Reduce under cgo: %v, want %v", err, ErrCgo)
	}
	if after, err := get(); err != nil || after != before {
		t.Errorf("Reduce under cgo changed %+v to %+v, %v", before, after, err)
	}
}
