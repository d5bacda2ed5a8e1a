package integration

import (
	"strings"
	"testing"
)

func TestHAProxy(t *testing.T) {
	proxy{
		start: func(r *rig, edit func(string) string) *process {
			write(r.T, r.dir, "haproxy.cfg", edit(document(r.T, "haproxy", "haproxy.cfg")))
			write(r.T, r.dir, "weir.lua", document(r.T, "haproxy", "weir.lua"))
			return start(r.T, r.dir, "haproxy", "-db", "-f", "haproxy.cfg")
		},
		closed: func(file string) string {
			closed := strings.Replace(file, "lua.weir open", "lua.weir closed", 1)
			if closed == file {
				t.Fatal("haproxy.cfg has no lua.weir open")
			}
			return closed
		},
		refused: 503,
	}.run(t)
}
