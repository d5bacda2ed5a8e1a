package fallback_test

import (
	"context"
	"errors"
	"testing"

	"github.com/weir-limiter/weir/pkg/fallback"
)

// TestPartialErrors say nothing of the whole store: neither that it is away nor, between failures, that it is well.
func TestPartialErrors(t *testing.T) {
	errPart := errors.New("a part of it is away")
	s := &store{}
	g, err := fallback.New(fallback.Options{Probe: s.probe, IsPartial: func(err error) bool { return errors.Is(err, errPart) }})
	if err != nil {
		t.Fatal(err)
	}
	if !g.Start(t.Context()) {
		t.Fatal("the store is not there")
	}
	call := func(with error) {
		if got := g.Do(t.Context(), func(context.Context) error { return with }); got != with {
			t.Errorf("%v of a call that fails with %v", got, with)
		}
	}
	for range 20 {
		call(errPart)
	}
	if s := g.State(); !s.Available || s.ConsecutiveFailures != 0 {
		t.Errorf("parts that are away: %+v", s)
	}
	for range 5 {
		call(errPart)
		call(errRefused)
	}
	if s := g.State(); s.Available {
		t.Errorf("five failures in a row, and parts that are away between them: %+v", s)
	}
}
