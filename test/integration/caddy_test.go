package integration

import (
	"strings"
	"testing"
	"time"
)

func TestCaddy(t *testing.T) {
	proxy{
		start: func(r *rig, edit func(string) string) *process {
			write(r.T, r.dir, "Caddyfile", edit(document(r.T, "caddy", "Caddyfile")))
			return start(r.T, r.dir, "caddy", "run", "--config", "Caddyfile")
		},
		reason: []string{"window_seconds", "policy"},
		closed: func(file string) string { // the block handle_errors, which is the last
			before, _, ok := strings.Cut(file, "\thandle_errors {")
			if !ok {
				t.Fatal("Caddyfile has no handle_errors")
			}
			return before + "}\n"
		},
		refused: 502,
		frozen:  3 * time.Second,
	}.run(t)
}
