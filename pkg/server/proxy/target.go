package proxy

import (
	"net/http"
	"strings"

	"github.com/weir-limiter/weir/pkg/middleware"
)

// refuse answers a request for something that is no path of the upstream, and tells whether it was one. What
// weir and the upstream might understand in two ways must not get there: "GET foo:login" would arrive as a
// request for "login", which no pattern matches and some servers take for /login. Nor is an upstream that happens to
// be a proxy itself to be asked for tunnels.
func refuse(w http.ResponseWriter, r *http.Request) bool {
	switch path := r.URL.Path; {
	case r.Method == http.MethodConnect:
		middleware.WriteProblem(w, http.StatusMethodNotAllowed, "CONNECT is not passed on")
	case r.URL.Opaque != "", !strings.HasPrefix(path, "/") && (path != "" || r.URL.Host == ""):
		middleware.WriteProblem(w, http.StatusBadRequest, "the target of the request has no path: begin it with a slash")
	default:
		return false
	}
	return true
}
