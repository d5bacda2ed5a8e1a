package main_test

import (
	"strings"
	"testing"
)

// runTopAnswers: the daemon listens to the events for everybody, and names sources on its socket alone.
func runTopAnswers(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.ok("attach", "eth0", "-c", s.file)
	p := s.run()
	s.waitReady(200)
	if answer := s.ask("GET", "/v1/top?n=3", ""); !strings.Contains(answer, `"busiest":[]`) {
		t.Errorf("top: %s", answer)
	}
	if status, body, err := s.get("/v1/top"); err != nil || status != 403 || !strings.Contains(body, "unix socket") {
		t.Errorf("top over TCP: %d %s %v, want 403", status, body, err)
	}
	if out := s.ok("top", "--once", "--for", "1s", "-o", "json"); !strings.Contains(out, `"attachments": 1`) {
		t.Errorf("weir top: %s", out)
	}
	if strings.Contains(p.log.String(), "weir top") {
		t.Errorf("log: %s", p.log)
	}
}
