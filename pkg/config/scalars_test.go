package config

import (
	"testing"

	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	fields := []string{"name", "limit", "window", "burst", "unit"}
	for word, want := range map[string]string{
		"limt": "limit", "limits": "limit", "lmiit": "limit", "Limit": "limit", "windwo": "window", "units": "unit",
		"x": "", "priority": "", "": "", "window_in_seconds_as_a_whole_number_please": "",
	} {
		if got, _ := nearest(word, fields); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestEditDistanceIsSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.StringMatching(`[abc]{0,8}`).Draw(t, "a")
		b := rapid.StringMatching(`[abc]{0,8}`).Draw(t, "b")
		n := editDistance(a, b)
		if n != editDistance(b, a) || (n == 0) != (a == b) || n > max(len(a), len(b)) {
			t.Fatalf("distance %d", n)
		}
	})
}
