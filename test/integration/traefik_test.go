//go:build traefik

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// traefikVariable names the traefik to test, if it is not the one that make test-traefik builds.
const traefikVariable = "TRAEFIK"

// TestTraefik has a build tag and a make target of its own: Debian has no Traefik, and to build one is more than all the rest
// of the tests.
func TestTraefik(t *testing.T) {
	binary := os.Getenv(traefikVariable)
	if binary == "" {
		binary = filepath.Join("..", "..", "build", "traefik")
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("there is no Traefik (make test-traefik builds one, or set %s): %v", traefikVariable, err)
	}
	proxy{
		start: func(r *rig, edit func(string) string) *process {
			write(r.T, r.dir, "traefik.yaml", document(r.T, "traefik", "traefik.yaml"))
			write(r.T, r.dir, "weir.yaml", edit(document(r.T, "traefik", "weir.yaml")))
			return start(r.T, r.dir, binary, "--configFile=traefik.yaml")
		},
		quiet: true,
		closed: func(file string) string {
			closed := strings.Replace(file, "address: http://127.0.0.1:8082/v1/auth", "address: http://127.0.0.1:8080/v1/auth", 1)
			if closed == file {
				t.Fatal("weir.yaml does not ask by the detour")
			}
			return closed
		},
		refused: 500,
		late:    true,
	}.run(t)
}
