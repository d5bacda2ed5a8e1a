package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/policy"
)

const testToken = "a-token-of-more-than-sixteen"

// fakeAdmin keeps a document and bans.
type fakeAdmin struct {
	document policy.Document
	bans     map[string]BanRequest
	dryRuns  int
	err      error
}

var (
	_ Policies = (*fakeAdmin)(nil)
	_ Bans     = (*fakeAdmin)(nil)
)

func (f *fakeAdmin) Document(context.Context) (policy.Document, error) { return f.document, f.err }

func (f *fakeAdmin) Change(_ context.Context, edit Edit, dryRun bool) (Applied, error) {
	after, err := edit(f.document)
	if err != nil {
		return Applied{}, err
	}
	if faults := after.Validate(); faults != nil {
		return Applied{}, Invalid(faults)
	}
	if dryRun {
		f.dryRuns++
		return Applied{DryRun: true}, nil
	}
	f.document = after
	return Applied{}, f.err
}

func (f *fakeAdmin) Bans(context.Context) ([]Ban, error) {
	var all []Ban
	for prefix := range f.bans {
		all = append(all, Ban{Prefix: netip.MustParsePrefix(prefix), Left: time.Minute})
	}
	return all, f.err
}

func (f *fakeAdmin) Ban(_ context.Context, r BanRequest) (Banned, error) {
	if f.err != nil {
		return Banned{}, f.err
	}
	f.bans[r.Prefix] = r
	return Banned{Ban: Ban{Prefix: netip.MustParsePrefix(r.Prefix)}}, nil
}

func (f *fakeAdmin) Unban(_ context.Context, prefix string) error {
	if _, ok := f.bans[prefix]; !ok {
		return NewProblem(http.StatusNotFound, "%s: not banned", prefix)
	}
	delete(f.bans, prefix)
	return nil
}

func (f *fakeAdmin) names() (names []string) {
	for _, p := range f.document.Policies {
		names = append(names, p.Name)
	}
	return names
}

func testPolicy(name string) policy.Policy {
	return policy.Policy{Name: name, Scope: policy.ScopePerIP, Limit: 10, Window: time.Second}.WithDefaults()
}

func startAdmin(t *testing.T, local bool, names ...string) (*running, *fakeAdmin) {
	t.Helper()
	f := &fakeAdmin{bans: map[string]BanRequest{}}
	for _, name := range names {
		f.document.Policies = append(f.document.Policies, testPolicy(name))
	}
	token, err := ReadToken(tokenFile(t, testToken+"\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, Options{
		Local: local, StateDir: "/sys/fs/bpf/weir", Policies: f, Bans: f, Token: func() Token { return token },
		Top: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("top")) }),
	}), f
}

// wantProblem holds an answer against what a problem has to be.
func wantProblem(t *testing.T, what string, answer *http.Response, body string, status int, parts ...string) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%s: %v: %s", what, err, body)
	}
	if answer.StatusCode != status || p.Status != status || p.Title != http.StatusText(status) {
		t.Errorf("%s: status %d: %s, want %d", what, answer.StatusCode, body, status)
	}
	if got := answer.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: content type %q", what, got)
	}
	for _, part := range parts {
		if !strings.Contains(body, part) {
			t.Errorf("%s: %s, want %q in it", what, body, part)
		}
	}
	return p
}

// TestAccess holds who may do what over TCP: what changes anything, or tells addresses, needs the token.
func TestAccess(t *testing.T) {
	t.Parallel()
	r, _ := startAdmin(t, false, "a")
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	for _, c := range []struct {
		method, path string
		header       http.Header
		status       int
	}{
		{"GET", "/v1/policies", nil, 200},
		{"GET", "/v1/policies/a", nil, 200},
		{"GET", "/v1/bans", nil, 401},
		{"GET", "/v1/top", nil, 401},
		{"PUT", "/v1/policies", nil, 401},
		{"PUT", "/v1/policies/a", nil, 401},
		{"DELETE", "/v1/policies", nil, 401},
		{"DELETE", "/v1/policies/a", nil, 401},
		{"POST", "/v1/bans", nil, 401},
		{"DELETE", "/v1/bans/192.0.2.1", nil, 401},
		{"GET", "/v1/bans", bearer("a-token-of-more-than-sixteeN"), 401},
		{"GET", "/v1/bans", bearer(""), 401},
		{"GET", "/v1/bans", http.Header{"Authorization": {"Basic " + testToken}}, 401},
		{"GET", "/v1/bans", http.Header{"Authorization": {testToken}}, 401},
		{"GET", "/v1/bans", bearer(testToken), 200},
		{"GET", "/v1/top", http.Header{"Authorization": {"bearer  " + testToken}}, 200},
		{"DELETE", "/v1/policies/a", bearer(testToken), 200},
	} {
		answer, body := r.send(t, c.method, c.path, "", c.header)
		if answer.StatusCode != c.status {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.path, c.header, answer.StatusCode, body, c.status)
		}
		if c.status == 401 {
			wantProblem(t, c.path, answer, body, 401, "server.admin_token_file")
			if got := answer.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
				t.Errorf("%s %s: WWW-Authenticate %q", c.method, c.path, got)
			}
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, "wrong admin token") || strings.Contains(log, "sixtee") || strings.Contains(log, "127.0.0.1") {
		t.Errorf("log %q, want the refusal, no token and no client", log)
	}
}

// TestAccessWithoutToken: without a token file nobody changes anything over TCP, an empty token least of all.
func TestAccessWithoutToken(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{bans: map[string]BanRequest{}}
	r := startWith(t, Options{Policies: f, Bans: f, Token: func() Token { return Token{} }})
	for _, header := range []http.Header{nil, {"Authorization": {"Bearer "}}, {"Authorization": {"Bearer x"}}} {
		answer, body := r.send(t, "POST", "/v1/bans", `{"prefix":"192.0.2.1/32","for":"1m"}`, header)
		wantProblem(t, "ban", answer, body, 403, "unix socket")
	}
	if len(f.bans) != 0 {
		t.Errorf("banned %v, want nothing", f.bans)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	r, f := startAdmin(t, true, "a", "b")
	_, whole := r.do(t, "GET", "/v1/policies")
	var got policy.Document
	if err := json.Unmarshal([]byte(whole), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.document, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	// What GET answers is what PUT takes.
	if answer, body := r.send(t, "PUT", "/v1/policies", whole, nil); answer.StatusCode != 200 {
		t.Errorf("put of what get answered: %d %s", answer.StatusCode, body)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		names              string
	}{
		{"GET", "/v1/policies/b", "", 200, "a b"},
		{"PUT", "/v1/policies/c", `{"name":"c","scope":"per_ip","limit":5,"window":"1s"}`, 200, "a b c"},
		{"PUT", "/v1/policies/a", `{"scope":"per_ip","limit":7,"window":"1s"}`, 200, "a b c"},
		{"DELETE", "/v1/policies/b", "", 200, "a c"},
		{"PUT", "/v1/policies?dry_run=true", `{"policies":[]}`, 200, "a c"},
		{"DELETE", "/v1/policies/c?dry_run=1", "", 200, "a c"},
		{"PUT", "/v1/policies", `{"policies":[{"name":"d","scope":"per_ip","limit":5,"window":"1s"}],"deny":["192.0.2.0/24"]}`, 200, "d"},
		{"DELETE", "/v1/policies/", "", 404, "d"}, // a script with an empty variable
		{"POST", "/v1/policies", "{}", 405, "d"},
		{"DELETE", "/v1/policies", "", 200, ""},
	} {
		answer, body := r.send(t, c.method, c.path, c.body, nil)
		if got := strings.Join(f.names(), " "); answer.StatusCode != c.status || got != c.names {
			t.Errorf("%s %s: %d %s, policies %q; want %d and %q", c.method, c.path, answer.StatusCode, body, got, c.status, c.names)
		}
	}
	if f.dryRuns != 2 {
		t.Errorf("%d dry runs, want 2", f.dryRuns)
	}
	if len(f.document.Deny) != 1 {
		t.Errorf("deny %v, want it kept when all policies are deleted", f.document.Deny)
	}
}

func TestBadPolicies(t *testing.T) {
	t.Parallel()
	r, f := startAdmin(t, true, "a")
	for _, c := range []struct {
		what, method, path, body string
		status                   int
		parts                    []string
	}{
		{"no such policy", "GET", "/v1/policies/b", "", 404, []string{`no policy \"b\"`, "there are: a)"}},
		{"delete of no such policy", "DELETE", "/v1/policies/b", "", 404, []string{`no policy \"b\"`}},
		{"empty", "PUT", "/v1/policies", "", 400, []string{"empty"}},
		{"not JSON", "PUT", "/v1/policies", `{"policies":[}`, 400, []string{"byte 14"}},
		{"two values", "PUT", "/v1/policies", `{} {}`, 400, []string{"follows"}},
		{"unknown field", "PUT", "/v1/policies", `{"polices":[]}`, 400, []string{"polices"}},
		{"bad value", "PUT", "/v1/policies", `{"policies":[{"name":"x","window":"1 s"}]}`, 400, []string{`"field":"policies[0].window"`, `"mend":"write`}},
		{"invalid", "PUT", "/v1/policies", `{"policies":[{"name":"X","scope":"per_ip","limit":0,"window":"1s"}]}`, 422, []string{`"field":"policies[0].name"`, `"field":"policies[0].limit"`}},
		{"another name", "PUT", "/v1/policies/a", `{"name":"b"}`, 400, []string{`"field":"name"`}},
		{"dry run", "PUT", "/v1/policies?dry_run=maybe", `{}`, 400, []string{"maybe"}},
		{"too large", "PUT", "/v1/policies", `{"allow":["` + strings.Repeat("1", maxDocument) + `"]}`, 413, []string{"8388608"}},
	} {
		answer, body := r.send(t, c.method, c.path, c.body, nil)
		wantProblem(t, c.what, answer, body, c.status, c.parts...)
	}
	if got := f.names(); len(got) != 1 || got[0] != "a" {
		t.Errorf("policies %v, want a alone", got)
	}
}

func TestBans(t *testing.T) {
	t.Parallel()
	r, f := startAdmin(t, true)
	if _, body := r.do(t, "GET", "/v1/bans"); body != `{"bans":[]}`+"\n" {
		t.Errorf("no bans: %s", body)
	}
	answer, body := r.send(t, "POST", "/v1/bans", `{"prefix":"192.0.2.0/24","for":"10m","force":true}`, nil)
	if answer.StatusCode != 200 || !strings.Contains(body, `"prefix":"192.0.2.0/24"`) {
		t.Errorf("ban: %d %s", answer.StatusCode, body)
	}
	if got := f.bans["192.0.2.0/24"]; got.For != "10m" || !got.Force {
		t.Errorf("asked for %+v", got)
	}
	if _, body := r.do(t, "GET", "/v1/bans"); !strings.Contains(body, `"left_ns":60000000000`) {
		t.Errorf("bans: %s", body)
	}
	// As it stands, and with the slash escaped.
	for _, path := range []string{"/v1/bans/192.0.2.0/24", "/v1/bans/192.0.2.0%2F24"} {
		f.bans["192.0.2.0/24"] = BanRequest{}
		if answer, body := r.do(t, "DELETE", path); answer.StatusCode != 204 || body != "" || len(f.bans) != 0 {
			t.Errorf("unban by %s: %d %s, left %v", path, answer.StatusCode, body, f.bans)
		}
	}
	answer, body = r.do(t, "DELETE", "/v1/bans/192.0.2.1")
	wantProblem(t, "unban of nothing", answer, body, 404, "not banned")
	for body, part := range map[string]string{
		`{"prefix":"192.0.2.1","until":"10m"}`: "until",
		`{"prefix":1}`:                         `"field":"prefix"`,
		`[]`:                                   "want",
	} {
		answer, text := r.send(t, "POST", "/v1/bans", body, nil)
		wantProblem(t, body, answer, text, 400, part)
	}
	answer, body = r.send(t, "POST", "/v1/bans", `{"prefix":"`+strings.Repeat("1", maxBody)+`"}`, nil)
	wantProblem(t, "too large", answer, body, 413)
}

// TestInternalError: what is no problem of the client's is the server's.
func TestInternalError(t *testing.T) {
	t.Parallel()
	r, f := startAdmin(t, true)
	f.err = context.DeadlineExceeded
	answer, body := r.do(t, "GET", "/v1/bans")
	wantProblem(t, "bans", answer, body, 500, "deadline exceeded")
}

// TestMeant: a request for the daemon of another state directory is refused by this one.
func TestMeant(t *testing.T) {
	t.Parallel()
	r, _ := startAdmin(t, true, "a")
	answer, body := r.send(t, "DELETE", "/v1/policies/a", "", http.Header{StateDirHeader: {"/sys/fs/bpf/other"}})
	wantProblem(t, "another's", answer, body, 421, "/sys/fs/bpf/weir", "/sys/fs/bpf/other", "--run-dir")
	if answer, body := r.send(t, "DELETE", "/v1/policies/a", "", http.Header{StateDirHeader: {"/sys/fs/bpf/weir"}}); answer.StatusCode != 200 {
		t.Errorf("ours: %d %s", answer.StatusCode, body)
	}
}
