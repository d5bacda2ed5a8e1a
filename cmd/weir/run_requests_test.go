package main_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

// gateFile has a policy of each kind.
const gateFile = `policies:
  - {name: login, scope: per_ip, limit: 3, window: 1h, match: {endpoints: [/login]}}
  - {name: users, scope: per_user, limit: 5, window: 1h}
  - {name: keys, scope: per_api_key, limit: 7, window: 1h}
  - {name: watched, scope: global, layer: l7, limit: 1, window: 1h, mode: shadow, match: {methods: [DELETE]}}
`

// TestRunRequests runs the real program without the kernel, each case with a daemon of its own.
func TestRunRequests(t *testing.T) {
	testutil.RequireRoot(t)
	binary := buildWeir(t)
	for name, test := range map[string]func(*testing.T, string){
		"unprivileged":    gateUnprivileged,
		"run-dir":         gateRunDir,
		"address-in-use":  gateInUse,
		"drops-all":       gateDropsAll,
		"reload":          gateReload,
		"reload-bad":      gateReloadBad,
		"reload-storm":    gateStorm,
		"needs-kernel":    gateNeedsKernel,
		"put":             gatePut,
		"identity":        gateIdentity,
		"answers":         gateAnswers,
		"check":           gateCheck,
		"check-secret":    gateCheckSecret,
		"bucket":          gateBucket,
		"explain":         gateExplain,
		"get":             gateGet,
		"lists":           gateLists,
		"rls":             gateRLS,
		"proxy":           gateProxy,
		"tokens":          gateTokens,
		"other-addresses": gateOtherAddresses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary)
		})
	}
}

// gateUnprivileged: who has no rights at all limits requests.
func gateUnprivileged(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.wantPasses("logins", 5, 3, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
	g.wantPasses("logins of another", 1, 1, `{"client_ip":"192.0.2.2","endpoint":"/login"}`)
	g.wantPasses("a user", 7, 5, `{"user_id":"alice"}`)
	if a := g.ask("GET", "/readyz", ""); a.status != 200 || !strings.Contains(a.body, `"requests_only":true`) {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	a := g.ask("GET", "/metrics", "")
	for _, want := range []string{
		`rate_limiter_requests_total{backend="memory",result="allowed"} 9`, `rate_limiter_requests_total{backend="memory",result="exceeded"} 4`,
		`rate_limiter_policy_hits_total{policy="login"} 6`, "rate_limiter_l7_table_capacity 1024", "rate_limiter_build_info{",
		`rate_limiter_policy_decisions_total{policy="users",verdict="drop"} 2`,
	} {
		if !strings.Contains(a.body, "\n"+want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	if n := strings.Count(a.body, "\nrate_limiter_active_policies{"); n != 1 || !strings.Contains(a.body, "} 4\n") {
		t.Errorf("active policies are there %d times, want once, and 4 of them", n)
	}
	for _, absent := range []string{"rate_limiter_kernel_", "rate_limiter_table_", "192.0.2.1", "alice"} {
		if strings.Contains(a.body, absent) {
			t.Errorf("metrics have %q in them", absent)
		}
	}
	if r := g.weir("", "doctor"); r.code != 0 || !strings.Contains(r.out, "limits requests alone") || !strings.Contains(r.out, "\nwarn  privileges ") {
		t.Errorf("doctor: %+v, want nothing that fails", r)
	}
	if a := g.admin("GET", "/v1/bans", ""); a.status != 404 || !strings.Contains(a.body, "limits requests alone") {
		t.Errorf("bans: %d %s", a.status, a.body)
	}
	if log := g.process.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
		t.Errorf("log: %s", log)
	}
	g.process.signal(os.Interrupt)
	if code := g.process.end(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// gateRunDir: where the socket can't be, the mend is told.
func gateRunDir(t *testing.T, binary string) {
	g := prepareGate(t, binary, gateFile)
	g.user, g.runDir = nobody, filepath.Join(g.dir, "not", "there")
	g.launch()
	if code := g.process.end(); code != 1 || !strings.Contains(g.process.log.String(), "--run-dir") {
		t.Errorf("exit code %d and %s, want 1 and the mend", code, g.process.log)
	}
}

// gateInUse: an address that somebody has is told of by the field that names it.
func gateInUse(t *testing.T, binary string) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for field, server := range map[string]string{
		"server.http": `{http: "ADDRESS"}`, "server.grpc": `{http: "127.0.0.1:0", grpc: "ADDRESS"}`,
		"server.proxy.listen": `{http: "127.0.0.1:0", proxy: {listen: "ADDRESS", upstream: "http://127.0.0.1:1"}}`,
	} {
		g := prepareGate(t, binary, "server: "+strings.Replace(server, "ADDRESS", taken.Addr().String(), 1)+"\n"+gateFile)
		g.user = nobody
		g.launch()
		if code, log := g.process.end(), g.process.log.String(); code != 1 || !strings.Contains(log, "weir: "+field+": listen ") || !strings.Contains(log, "ss -ltnp") {
			t.Errorf("%s: exit code %d and %s, want 1, the field and the mend", field, code, log)
		}
	}
}

// gateDropsAll: root keeps no capability that nothing needs.
func gateDropsAll(t *testing.T, binary string) {
	g := prepareGate(t, binary, gateFile)
	g.start()
	g.wantPasses("logins", 4, 3, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
	for _, line := range threadLines(t, g.process, "Cap", "NoNewPrivs") {
		name, value, _ := strings.Cut(line, ":")
		want := "0000000000000000"
		if name == "NoNewPrivs" {
			want = "1"
		}
		if strings.TrimSpace(value) != want {
			t.Errorf("a thread has %s, want %s", line, want)
		}
	}
	g.reload("msg=reloaded", 1)
}

// gateReload: limits change in one step, and buckets keep what they owe.
func gateReload(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	const alice = `{"user_id":"alice"}`
	g.wantPasses("before", 4, 4, alice)
	g.write(strings.Replace(gateFile, "limit: 5", "limit: 10", 1))
	g.reload("msg=reloaded", 1)
	// 4 of 5 tokens were worth 48 minutes, which are 8 of 10.
	g.wantPasses("after", 6, 2, alice)
	if a := g.ask("GET", "/v1/policies/users", ""); !strings.Contains(a.body, `"limit":10`) {
		t.Errorf("policy: %s", a.body)
	}
}

// gateReloadBad: a file with faults, or one that is not to be read, changes nothing.
func gateReloadBad(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.wantPasses("before", 3, 3, `{"user_id":"alice"}`)
	for i, bad := range []string{
		strings.Replace(gateFile, "limit: 3", "limit: 0", 1),
		gateFile + "  - {name: odd, scope: custom, key: \"{nobody}\", limit: 1, window: 1s}\n",
		"table: {l7_entries: 2048}\n" + gateFile,
		"server: {http: \"127.0.0.1:0\", jwt: {jwks_file: " + g.dir + "/none.json}}\n" + gateFile,
	} {
		g.write(bad)
		g.reload("the file is not reloaded", i+1)
	}
	g.wantPasses("after", 3, 2, `{"user_id":"alice"}`)
	if a := g.ask("GET", "/readyz", ""); a.status != 200 || !strings.Contains(a.body, "none.json") {
		t.Errorf("readyz: %d %s, want it ready, and the last fault", a.status, a.body)
	}
}

// gateNeedsKernel: what only the kernel can do asks for a restart.
func gateNeedsKernel(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	const packets = "  - {name: packets, scope: per_ip, limit: 9, window: 1s}\n"
	for i, bad := range []string{"interfaces: [{name: lo}]\n" + gateFile, gateFile + packets} {
		g.write(bad)
		g.reload("restart weir run", i+1)
	}
	body := `{"name":"packets","scope":"per_ip","limit":9,"window":"1s"}`
	if a := g.admin("PUT", "/v1/policies/packets", body); a.status != 409 || !strings.Contains(a.body, "policy packets is of layer kernel") {
		t.Errorf("put: %d %s, want 409", a.status, a.body)
	}
	if a := g.admin("GET", "/v1/policies", ""); strings.Contains(a.body, "packets") {
		t.Errorf("policies: %s, want none of the kernel", a.body)
	}
	// One that is off asks nothing of anybody.
	if a := g.admin("PUT", "/v1/policies/packets", strings.Replace(body, "{", `{"mode":"off",`, 1)); a.status != 200 {
		t.Errorf("put of one that is off: %d %s", a.status, a.body)
	}
}

// gatePut: what the admin API changes is in force at once, whole or not at all.
func gatePut(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	const carol = `{"user_id":"carol"}`
	one := `{"name":"users","scope":"per_user","limit":2,"window":"1h"}`
	if a := g.ask("PUT", "/v1/policies/users", one); a.status != 403 {
		t.Errorf("put over TCP: %d %s, want 403", a.status, a.body)
	}
	if a := g.admin("PUT", "/v1/policies/users?dry_run=true", one); a.status != 200 {
		t.Errorf("dry run: %d %s", a.status, a.body)
	}
	g.wantPasses("after the dry run", 3, 3, carol)
	if a := g.admin("PUT", "/v1/policies/users", one); a.status != 200 || !strings.Contains(a.body, `"from":5,"to":2`) {
		t.Errorf("put: %d %s", a.status, a.body)
	}
	g.wantPasses("after the put", 3, 2, `{"user_id":"dora"}`)
	two := `{"policies":[` + one + `,{"name":"b","scope":"per_user","limit":1,"window":"1s","match":{"endpoints":["no-slash"]}}]}`
	if a := g.admin("PUT", "/v1/policies", two); a.status != 422 || !strings.Contains(a.body, "policies[1].match.endpoints[0]") {
		t.Errorf("put of a bad one: %d %s, want 422", a.status, a.body)
	}
	if a := g.admin("DELETE", "/v1/policies/users", ""); a.status != 200 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	g.wantPasses("without a policy", 9, 9, carol)
	g.reload("msg=reloaded", 1)
	g.wantPasses("after the reload", 5, 2, carol)
}

// gateIdentity: whom /v1/auth believes follows the file.
func gateIdentity(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	auth := func(header ...string) answered { return g.ask("GET", "/v1/auth", "", header...) }
	for range 6 {
		if a := auth("X-User", "alice"); a.status != 200 || a.header.Get("X-RateLimit-Limit") != "" {
			t.Fatalf("a peer that is not trusted names its user: %d %v", a.status, a.header)
		}
	}
	g.write("server: {http: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1/32], headers: ietf}\n" + gateFile)
	g.reload("msg=reloaded", 1)
	for i := range 6 {
		a := auth("X-User", "alice")
		if want := map[bool]int{true: 200, false: 429}[i < 5]; a.status != want {
			t.Errorf("request %d of alice: %d, want %d", i+1, a.status, want)
		}
		if got := a.header.Get("RateLimit-Policy"); !strings.HasPrefix(got, `"users";q=5`) || a.header.Get("X-RateLimit-Limit") != "" {
			t.Errorf("headers %v, want those of the other dialect", a.header)
		}
	}
	// On the socket everybody is trusted, and keys are believed from all.
	if a := g.admin("GET", "/v1/auth", "", "X-User", "alice"); a.status != 429 {
		t.Errorf("alice on the socket: %d %s, want 429", a.status, a.body)
	}
	if a := g.admin("GET", "/v1/auth", "", "X-API-Key", "secret-of-bob"); a.status != 200 || a.header.Get("RateLimit-Policy") == "" {
		t.Errorf("a key: %d %v", a.status, a.header)
	}
	if strings.Contains(g.process.log.String(), "alice") || strings.Contains(g.process.log.String(), "bob") {
		t.Errorf("the log names somebody: %s", g.process.log)
	}
}

// gateAnswers: health and statistics, as everybody may read them.
func gateAnswers(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.wantPasses("a user", 7, 5, `{"user_id":"alice"}`)
	var stats struct {
		TotalRequests  int `json:"total_requests"`
		ActivePolicies int `json:"active_policies"`
	}
	a := g.ask("GET", "/v1/stats", "")
	if err := json.Unmarshal([]byte(a.body), &stats); err != nil || stats.TotalRequests != 7 || stats.ActivePolicies != 4 {
		t.Errorf("stats: %v, %s", err, a.body)
	}
	if a := g.ask("GET", "/v1/health", ""); a.status != 200 || !strings.Contains(a.body, `"redis_configured":false`) {
		t.Errorf("health: %d %s", a.status, a.body)
	}
	if a := g.ask("GET", "/v1/buckets/users/alice", ""); a.status != 403 {
		t.Errorf("a bucket over TCP: %d %s, want 403", a.status, a.body)
	}
}

// gateOtherAddresses: listeners stay where they are, and the log says so.
func gateOtherAddresses(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.write("server: {http: \"127.0.0.1:1\", grpc: \"127.0.0.1:0\"}\n" + gateFile)
	g.reload("which needs a restart of weir run", 2)
	g.process.waitLog("msg=reloaded", 1)
	g.wantPasses("at the old address", 1, 1, `{"user_id":"alice"}`)
}

// gateProxy: what is denied never gets to the upstream.
func gateProxy(t *testing.T, binary string) {
	var seen atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		_, _ = io.WriteString(w, "from "+r.URL.Path)
	}))
	defer upstream.Close()
	server := `server: {http: "127.0.0.1:0", proxy: {listen: "127.0.0.1:0", upstream: "` + upstream.URL + `"}}` + "\n"
	g := newGate(t, binary, server+gateFile)
	at := "http://" + g.listening("proxy")
	for i := range 5 {
		a := g.do(g.client, at, "GET", "/login", "")
		if want := map[bool]int{true: 200, false: 429}[i < 3]; a.status != want || a.header.Get("X-RateLimit-Limit") != "3" {
			t.Errorf("request %d: %d %v, want %d", i+1, a.status, a.header, want)
		}
	}
	if n := seen.Load(); n != 3 {
		t.Errorf("%d requests got to the upstream, want 3", n)
	}
	g.write(strings.Replace(server, "}}", "}, headers: \"off\"}", 1) + gateFile)
	g.reload("msg=reloaded", 1)
	if a := g.do(g.client, at, "GET", "/else", ""); a.status != 200 || a.body != "from /else" || a.header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("after the reload: %d %s %v", a.status, a.body, a.header)
	}
	upstream.Close()
	if a := g.do(g.client, at, "GET", "/else", ""); a.status != 502 {
		t.Errorf("without the upstream: %d %s, want 502", a.status, a.body)
	}
}
