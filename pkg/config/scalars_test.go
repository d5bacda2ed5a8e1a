package config

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute,
		"1d": day, "30d": 30 * day, "1d12h": 36 * time.Hour, "0": 0, "0s": 0, "0d": 0,
		"106751d": 106751 * day, "106751d23h47m16.854775807s": 1<<63 - 1,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "d", "1", "s", "-1s", "-1d", "1d-1h", "1.5d", "1dd", "1d1", "12h1d", "1 d", "106752d", "99999999999999999999d",
		"106751d23h47m16.854775808s", "9999999h", "one day",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
}

// TestDurationNeverWraps adds days and hours up to the edge of an int64.
func TestDurationNeverWraps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.Uint64Range(0, 110_000).Draw(t, "days")
		hours := rapid.Uint64Range(0, 3_000_000).Draw(t, "hours")
		got, err := ParseDuration(fmt.Sprintf("%dd%dh", days, hours))
		fits := days*24+hours <= uint64((1<<63-1)/time.Hour)
		if fits != (err == nil) || fits && got != time.Duration(days*24+hours)*time.Hour {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "192.0.2.0/24": "192.0.2.0/24", "0.0.0.0/0": "0.0.0.0/0",
		"2001:db8::1": "2001:db8::1/128", "2001:db8::/32": "2001:db8::/32", "::/0": "::/0",
	} {
		if got, err := ParsePrefix(text); err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2", "2001:db8::1/32", "fe80::1%eth0", "::ffff:192.0.2.1",
		"::ffff:192.0.2.0/120", "example.org", "192.0.2.0 /24", "192.0.2.0/024",
	} {
		if got, err := ParsePrefix(text); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
}

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
