package ratesync

import (
	"testing"
	"time"
)

// TestServers: a server that fails again and again is left alone, but for one call a second, until one succeeds.
func TestServers(t *testing.T) {
	var s servers
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range serverFailures {
		if !s.admits("a", now) {
			t.Fatalf("left alone after %d failures", i)
		}
		s.told("a", true, now)
	}
	if s.admits("a", now) || !s.admits("b", now) {
		t.Error("not that one alone")
	}
	for range 3 {
		now = now.Add(serverRest)
		if !s.admits("a", now) || s.admits("a", now) {
			t.Error("not one probe")
		}
		s.told("a", true, now)
		if now = now.Add(serverRest - 1); s.admits("a", now) {
			t.Error("no rest after a probe that failed")
		}
	}
	s.told("a", false, now)
	if !s.admits("a", now) || s.ailing.Load() != 0 {
		t.Error("left alone though it answered")
	}
	s.told("a", true, now)
	s.told("a", true, now)
	s.told("a", false, now)
	s.told("a", true, now)
	if !s.admits("a", now) {
		t.Error("failures that were not in a row")
	}
	for i := range 2 * maxAiling {
		s.told(string(rune(i)), true, now)
	}
	if n := int(s.ailing.Load()); n > maxAiling {
		t.Errorf("%d are remembered", n)
	}
}
