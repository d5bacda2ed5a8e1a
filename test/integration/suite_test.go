package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxy is one of the proxies, and what its page in docs/integrations promises of it.
type proxy struct {
	// start runs it in a directory with its files, after edit has changed the one that has the choice in it.
	start func(r *rig, edit func(string) string) *process
	// quiet: it can't tell clients that were admitted how much is left, and tells the application.
	quiet bool
	// closed is what its page says to change for those who want no request to pass while weir is away, and
	// refused the status that clients get then.
	closed  func(string) string
	refused int
	// late: it finds out by a check every second that weir is away, and refuses what comes before.
	late bool
}

func unchanged(s string) string { return s }

// run puts the proxy between a client and the application, and holds it to all that it promises.
func (p proxy) run(t *testing.T) {
	t.Run("limits", func(t *testing.T) {
		r := newRig(t)
		p.ready(r, unchanged)
		for _, c := range []struct {
			name  string
			check func(*rig)
		}{
			{"admitted", p.admitted},
			{"denied", p.denied},
			{"shadow", p.shadow},
			{"addresses", addresses},
			{"keys", keys},
			{"users", users},
			{"method and path", methodAndPath},
			{"forged headers", forgedHeaders},
			{"deny list", denyList},
		} {
			t.Run(c.name, func(t *testing.T) {
				inner := *r
				inner.T = t
				c.check(&inner)
			})
		}
	})
	t.Run("weir away", func(t *testing.T) {
		r := newRig(t)
		p.ready(r, unchanged)
		p.failsOpen(r)
	})
	t.Run("weir away and nothing passes", func(t *testing.T) {
		r := newRig(t)
		p.ready(r, p.closed)
		p.failsClosed(r)
	})
}

// ready starts the proxy, and waits until requests get through it.
func (p proxy) ready(r *rig, edit func(string) string) {
	r.Helper()
	proxy := p.start(r, edit)
	client := newClient("127.0.0.1")
	defer client.CloseIdleConnections()
	eventually(r.T, "the proxy is ready", func() bool {
		if proxy.ended() {
			r.Fatal("the proxy ended")
		}
		got, err := client.Get("http://" + front + "/ready")
		if err != nil {
			return false
		}
		got.Body.Close()
		return got.StatusCode == http.StatusOK
	})
}

// admitted: the request reaches the application as it was sent, and somebody is told what is left.
func (p proxy) admitted(r *rig) {
	a := r.want(200, question{from: "127.0.0.2", method: "POST", path: "/address/admitted?q=%20x&hits=0", body: "the body"})
	if a.body != "the application" || a.header.Get("X-Application") != "yes" {
		r.Errorf("the application's answer came as %v %q", a.header, a.body)
	}
	came := r.app.visits("/address/admitted")
	if len(came) != 1 {
		r.Fatalf("the application saw %d requests, want 1", len(came))
	}
	if v := came[0]; v.method != "POST" || v.target != "/address/admitted?q=%20x&hits=0" || v.body != "the body" {
		r.Errorf("the application saw %s %s with body %q", v.method, v.target, v.body)
	}
	told := a.header
	if p.quiet {
		told = came[0].header
	}
	for name, want := range map[string]string{"X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "2", "X-RateLimit-Policy": "per-address"} {
		if got := told.Get(name); got != want {
			r.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if reset, err := strconv.ParseInt(told.Get("X-RateLimit-Reset"), 10, 64); err != nil || time.Until(time.Unix(reset, 0)) > 25*time.Hour {
		r.Errorf("X-RateLimit-Reset: %q", told.Get("X-RateLimit-Reset"))
	}
	if a.header.Get("Retry-After") != "" {
		r.Errorf("an admitted request got Retry-After: %s", a.header.Get("Retry-After"))
	}
}

// denied: the request gets 429, with what a client has to know, and does not reach the application.
func (p proxy) denied(r *rig) {
	q := question{from: "127.0.0.3", path: "/address/denied"}
	for range 3 {
		r.want(200, q)
	}
	a := r.want(429, q)
	if n := len(r.app.visits("/address/denied")); n != 3 {
		r.Errorf("the application saw %d requests, want 3", n)
	}
	retry, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || retry < 8*3600-600 || retry > 8*3600 { // a token takes eight hours
		r.Errorf("Retry-After: %q, want nearly %d", a.header.Get("Retry-After"), 8*3600)
	}
	for name, want := range map[string]string{"X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "0", "X-RateLimit-Policy": "per-address"} {
		if got := a.header.Get(name); got != want {
			r.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var body struct {
		Error struct {
			Code        string
			Details     map[string]any
			Suggestions []string `json:"recovery_suggestions"`
		}
	}
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		r.Errorf("Content-Type: %s", kind)
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error.Code != "RATE_LIMIT_EXCEEDED" {
		r.Fatalf("body %q: %v", a.body, err)
	}
	details := map[string]any{"limit": 3.0, "window_seconds": 86400.0, "retry_after_seconds": float64(retry), "policy": "per-address"}
	if !maps.Equal(body.Error.Details, details) {
		r.Errorf("body %s, want details %v", a.body, details)
	}
	if want := fmt.Sprintf("Wait %d seconds before retrying", retry); len(body.Error.Suggestions) != 3 || body.Error.Suggestions[0] != want {
		r.Errorf("suggestions %q, want three, and first %q", body.Error.Suggestions, want)
	}
}

// shadow: what would be denied passes, and somebody is told.
func (p proxy) shadow(r *rig) {
	q := question{from: "127.0.0.4", path: "/watched"}
	for i, want := range []string{"", "watched"} {
		a := r.want(200, q)
		told := a.header
		if p.quiet {
			told = r.app.visits("/watched")[i].header
		}
		if got := told.Get("X-RateLimit-Shadow"); got != want {
			r.Errorf("X-RateLimit-Shadow: %q, want %q", got, want)
		}
	}
}

// addresses: each has a bucket of its own, and those of nobody else.
func addresses(r *rig) {
	for i := range 5 {
		from := fmt.Sprintf("127.0.1.%d", i+1)
		for range 3 {
			r.want(200, question{from: from, path: "/address/each"})
		}
		r.want(429, question{from: from, path: "/address/each"})
	}
}

// keys: a key has its bucket wherever it comes from, and a request without one is not of any.
func keys(r *rig) {
	key := func(s string) http.Header { return http.Header{"X-Api-Key": {s}} }
	for i, status := range []int{200, 200, 429} {
		from := fmt.Sprintf("127.0.0.%d", 10+i)
		r.want(status, question{from: from, path: "/key/x", header: key("first")})
	}
	r.want(200, question{from: "127.0.0.10", path: "/key/x", header: key("second")})
	for range 3 {
		r.want(200, question{from: "127.0.0.10", path: "/key/x"})
	}
}

// users: who is authenticated has a bucket; who says so, or has the wrong password, does not.
func users(r *rig) {
	account := func(user string) question { return question{from: "127.0.0.20", path: "/account/x", user: user} }
	for range 3 {
		r.want(401, question{from: "127.0.0.20", path: "/account/x"})
		r.want(401, question{from: "127.0.0.20", path: "/account/x", header: http.Header{"Authorization": {"Basic YWxpY2U6d3Jvbmc="}}})
	}
	claims := http.Header{"X-User": {"alice"}, "Authorization": {"Basic YWxpY2U6d3Jvbmc="}}
	for range 4 { // where nobody is authenticated, whoever says that he is alice spends nothing of hers
		r.want(200, question{from: "127.0.0.21", path: "/open/x", header: claims})
	}
	r.want(200, account("alice"))
	if came := r.app.visits("/account/x"); len(came) != 1 {
		r.Errorf("the application saw %d requests for an account, want 1", len(came))
	}
	r.want(200, account("alice"))
	for _, header := range []http.Header{nil, {"X-User": {"bob"}}, {"X-User": {"bob", "carol"}}, {"Connection": {"close, X-User"}}} {
		q := account("alice")
		q.header = header
		r.want(429, q)
	}
	r.want(200, account("bob"))
}

// methodAndPath: policies see both, and the path as it is meant and not as it is written.
func methodAndPath(r *rig) {
	post := func(path string) question { return question{from: "127.0.0.30", method: "POST", path: path} }
	for range 2 {
		r.want(200, question{from: "127.0.0.30", path: "/orders/1/items"})
		r.want(200, post("/orders/1"))
	}
	r.want(200, post("/orders/1/items?page=1"))
	for _, path := range []string{
		"/orders/1/items", "/orders/2/items", "/orders/1/%69tems", "/orders//1/./items", "/x/../orders/1/items",
		"/orders/1/items?hits=0", "/orders/1/items?deny=200", "//orders/1/items",
	} {
		r.want(429, post(path))
	}
}

// forgedHeaders: whatever a client sends, it is who it is, and asks for what it asks for.
func forgedHeaders(r *rig) {
	q := question{from: "127.0.0.40", method: "POST", path: "/address/forged"}
	for range 3 {
		r.want(200, q)
	}
	for _, header := range []http.Header{
		nil,
		{"X-Forwarded-For": {"203.0.113.9"}},
		{"X-Forwarded-For": {"127.0.0.1"}},
		{"X-Forwarded-For": {"203.0.113.9", "203.0.113.10"}},
		{"X-Forwarded-For": {"203.0.113.9"}, "Connection": {"close, X-Forwarded-For"}},
		{"Connection": {"close, X-Forwarded-For, X-Forwarded-Uri, X-Forwarded-Method, X-Original-Uri"}},
		{"X_forwarded_for": {"203.0.113.9"}},
		{"Forwarded": {"for=203.0.113.9"}},
		{"X-Real-Ip": {"203.0.113.9"}},
		{"True-Client-Ip": {"203.0.113.9"}},
		{"X-Forwarded-Uri": {"/free"}},
		{"X-Original-Uri": {"/free"}},
		{"X-Original-Url": {"/free"}},
		{"X-Forwarded-Method": {"GET"}},
		{"X-Original-Method": {"GET"}},
		{"X-User": {"nobody"}, "X-Role": {"admin"}},
		{"X-Ratelimit-Status": {"200"}, "X-Ratelimit-Remaining": {"9"}},
	} {
		q.header = header
		r.want(429, q)
	}
	if n := len(r.app.visits("/address/forged")); n != 3 {
		r.Errorf("the application saw %d requests, want 3", n)
	}
}

// denyList: 403, and no word of when to come again.
func denyList(r *rig) {
	a := r.want(403, question{from: "127.0.0.66", path: "/denied"})
	if a.header.Get("Retry-After") != "" || len(r.app.visits("/denied")) != 0 {
		r.Errorf("Retry-After %q, the application saw %d requests", a.header.Get("Retry-After"), len(r.app.visits("/denied")))
	}
}

// failsOpen: who is over the limit passes while weir is away or stuck, and not for long after it is back.
func (p proxy) failsOpen(r *rig) {
	over := question{from: "127.0.0.50", method: "POST", path: "/address/over", body: "the body"}
	for range 3 {
		r.want(200, over)
	}
	r.want(429, over)

	noticed := func() {
		if p.late {
			eventually(r.T, "the proxy has found out", func() bool { return r.ask(over).status == 200 })
		}
	}
	r.weir.freeze()
	noticed()
	if a := r.want(200, over); a.took > 3*time.Second {
		r.Errorf("with weir stuck an answer took %s", a.took)
	}
	r.weir.signal(syscall.SIGCONT)
	eventually(r.T, "limits hold again after weir was stuck", func() bool { return r.ask(over).status == 429 })
	r.weir.stop(syscall.SIGKILL)
	noticed()
	before := len(r.app.visits("/address/over"))
	for range 10 {
		if a := r.want(200, over); a.took > 2*time.Second {
			r.Errorf("with weir away an answer took %s", a.took)
		}
	}
	came := r.app.visits("/address/over")[before:]
	if len(came) != 10 {
		r.Errorf("with weir away the application saw %d requests, want 10", len(came))
	}
	for _, v := range came {
		if v.body != over.body || v.method != over.method {
			r.Errorf("with weir away the application saw %s with body %q", v.method, v.body)
		}
	}
	r.startWeir()
	eventually(r.T, "limits hold again after weir was away", func() bool { return r.ask(over).status == 429 })
}

// failsClosed: nothing reaches the application while weir is away, and what may does again after it is back.
func (p proxy) failsClosed(r *rig) {
	q := question{from: "127.0.0.51", path: "/address/closed"}
	r.want(200, q)
	r.weir.stop(syscall.SIGKILL)
	for range 3 {
		r.want(p.refused, q)
	}
	if n := len(r.app.visits("/address/closed")); n != 1 {
		r.Errorf("with weir away the application saw %d requests, want none", n-1)
	}
	r.startWeir()
	eventually(r.T, "requests pass again", func() bool { return r.ask(q).status == 200 })
}
