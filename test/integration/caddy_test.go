package integration

import (
	"strings"
	"testing"
)

func TestCaddy(t *testing.T) {
	proxy{
		start: func(r *rig, edit func(string) string) *process {
			write(r.T, r.dir, "Caddyfile", edit(document(r.T, "caddy", "Caddyfile")))
			return start(r.T, r.dir, "caddy", "run", "--config", "Caddyfile")
		},
		closed: func(file string) string { // the block handle_errors, which is the last
			before, _, ok := strings.Cut(file, "\thandle_errors {")
			if !ok {
				t.Fatal("Caddyfile has no handle_errors")
			}
			return before + "}\n"
		},
		refused: 502,
	}.run(t)
}

// forwardAuth is Caddy as its manual has it ask anybody. It leaves the client's query in the question.
const forwardAuth = `
:80 {
	forward_auth 127.0.0.1:8080 {
		uri /v1/auth
	}
	reverse_proxy 127.0.0.1:9000
}
`

// TestCaddyForwardAuth: no query of a client's is taken for a word of the proxy's.
func TestCaddyForwardAuth(t *testing.T) {
	r := newRig(t)
	proxy{start: func(r *rig, _ func(string) string) *process {
		write(r.T, r.dir, "Caddyfile", forwardAuth)
		return start(r.T, r.dir, "caddy", "run", "--config", "Caddyfile")
	}}.ready(r, unchanged)
	for _, path := range []string{"/address/x?hits=0", "/address/x?q=1", "/address/x?deny=429"} {
		r.want(200, question{from: "127.0.0.2", path: path})
	}
	for _, path := range []string{"/address/x?hits=0", "/address/x?q=%zz", "/address/x", "/address/x?hits=0;#a", "/address/x?%68its=0"} {
		r.want(429, question{from: "127.0.0.2", path: path})
	}
}
