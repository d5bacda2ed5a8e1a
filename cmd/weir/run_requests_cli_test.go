package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// gateCheck: what weir check prints, and with which exit code.
func gateCheck(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.wantRan(0, "allowed\n  limit       2 in 1m\n  remaining   1\n  full again  in T\n", "check", "k", "--limit", "2", "--window", "1m")
	g.wantRan(0, "denied\n  limit  2 in 1m\n  retry  in T\n", "check", "k", "--limit", "2", "--window", "1m", "--hits", "2")
	login := []string{"check", "--ip", "192.0.2.1", "--method", "post", "--endpoint", "/login"}
	g.wantRan(0, "allowed by login\n  limit       3 in 1h\n  remaining   0\n  full again  in T\n", append(login, "--hits", "3")...)
	g.wantRan(0, "denied by login\n  limit  3 in 1h\n  retry  in T\n", login...)
	g.wantRan(0, "allowed by users\n  limit       5 in 1h\n  remaining   5\n  full again  within a second\n", "check", "--user", "alice", "--hits", "0")
	g.wantRan(0, "allowed: no policy that enforces applies\n", "check", "--endpoint", "/else", "--metadata", "tenant=acme")
	g.wantRan(0, "allowed: no policy that enforces applies\n", "check", "--method", "delete")
	if r := g.weir("", "check", "--method", "DELETE"); r.code != 0 || !strings.Contains(r.out, "watched, which is in shadow, would have denied it") {
		t.Errorf("in shadow: %+v", r)
	}
	if r := g.weir("", append(login, "--exit-code")...); r.code != 1 || r.err != "weir: the request is denied\n" {
		t.Errorf("--exit-code: %+v, want 1", r)
	}
	r := g.weir("", append(login, "-o", "json")...)
	for _, want := range []string{`"allowed": false`, `"limit": 3`, `"policy": "login"`, `"code": "RATE_LIMIT_EXCEEDED"`, `"retry_after": 1`} {
		if !strings.Contains(r.out, want) {
			t.Errorf("JSON lacks %s: %s", want, r.out)
		}
	}
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{2, "want a key with --limit and --window", nil},
		{2, "want one key or none", []string{"k", "l", "--limit", "5", "--window", "1s"}},
		{2, "want both --limit and --window", []string{"k", "--limit", "5"}},
		{2, "want the key that --limit is for", []string{"--limit", "5", "--window", "1s"}},
		{2, "want the one or the other", []string{"k", "--limit", "5", "--window", "1s", "--user", "alice"}},
		{2, "--window ever", []string{"k", "--limit", "5", "--window", "ever"}},
		{2, "--ip nowhere", []string{"--ip", "nowhere"}},
		{1, "limit: ", []string{"k", "--limit", "0", "--window", "1s"}},
		{1, "hits: asks for 9, and a full bucket of policy users holds 5", []string{"--user", "alice", "--hits", "9"}},
	} {
		if r := g.weir("", append([]string{"check"}, c.args...)...); r.code != c.code || !strings.Contains(r.err, c.text) || r.out != "" {
			t.Errorf("check %v: %+v, want exit code %d and %q", c.args, r, c.code, c.text)
		}
	}
	g.process.kill()
	if r := g.weir("", login...); r.code != 1 || !strings.Contains(r.err, "no weir run answers on "+g.runDir) {
		t.Errorf("without a daemon: %+v", r)
	}
}

// gateCheckSecret: a key comes from a file or the standard input, and is the same wherever it comes from.
func gateCheckSecret(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	file := g.writeFile("key", "secret-of-bob\n")
	left := func(r ran) string {
		t.Helper()
		_, rest, _ := strings.Cut(r.out, "remaining")
		line, _, _ := strings.Cut(rest, "\n")
		if r.code != 0 || !strings.HasPrefix(r.out, "allowed by keys\n") {
			t.Errorf("%+v, want it allowed by keys", r)
		}
		return strings.TrimSpace(line)
	}
	if got := left(g.weir("", "check", "--api-key-file", file)); got != "6" {
		t.Errorf("%s left after the first, want 6", got)
	}
	if got := left(g.weir("secret-of-bob", "check", "--api-key-file", "-")); got != "5" {
		t.Errorf("%s left after the second, want 5", got)
	}
	if got := left(g.weir("", "check", "--api-key", "secret-of-bob")); got != "4" {
		t.Errorf("%s left after the third, want 4", got)
	}
	if r := g.weir("", "check", "--api-key", "a", "--api-key-file", file); r.code != 2 || !strings.Contains(r.err, "not both") {
		t.Errorf("both: %+v", r)
	}
	if r := g.weir("\n", "check", "--api-key-file", "-"); r.code != 1 || !strings.Contains(r.err, "the first line is empty") {
		t.Errorf("empty: %+v", r)
	}
	// Its bucket goes by the digest that explain shows.
	r := g.weir("secret-of-bob\n", "policy", "explain", "--api-key-file", "-")
	_, row, _ := strings.Cut(r.out, "keys     charge  ")
	digest, _, _ := strings.Cut(row, " ")
	if len(digest) != 32 || strings.Contains(r.out, "secret") {
		t.Fatalf("explain: %+v, want a digest", r)
	}
	if r := g.weir("", "bucket", "get", "keys", digest); !strings.Contains(r.out, "tokens      4 of 7\n") {
		t.Errorf("bucket of the key: %+v", r)
	}
}

// gateBucket: buckets of layer 7 are looked at and filled through the daemon.
func gateBucket(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile+`  - {name: paths, scope: per_endpoint, limit: 5, window: 1h, match: {endpoints: ["/api/{id}", "/static/*"]}}
  - {name: tenants, scope: custom, key: "t/{metadata.tenant}", limit: 5, window: 1h}
  - {name: pairs, scope: custom, key: "{user}:{endpoint}", limit: 5, window: 1h}
`)
	g.wantPasses("logins", 3, 3, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
	g.wantPasses("paths", 2, 2, `{"endpoint":"/api/7"}`)
	g.wantPasses("pairs", 1, 1, `{"user_id":"alice","endpoint":"/orders"}`)
	g.wantPasses("tenants", 1, 1, `{"metadata":{"tenant":"acme"}}`)
	const policyLine = "policy      login: 3/h, burst 3, token_bucket, of layer 7\nbucket      192.0.2.1/32\n"
	g.wantRan(0, policyLine+"tokens      0 of 3\nnext token  in T\nfull again  in T\n", "bucket", "get", "login", "192.0.2.1")
	g.wantRan(0, "login: the bucket of 192.0.2.1/32 is full; it had 0 of 3 tokens\n", "bucket", "reset", "login", "192.0.2.1")
	g.wantRan(0, policyLine+"tokens      3 of 3\nnext token  there is one\nfull again  it is full\n", "bucket", "get", "login", "192.0.2.1")
	g.wantPasses("logins again", 4, 3, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
	for _, c := range []struct{ policy, key, want string }{
		{"paths", "/api/{id}", `"tokens": 3`}, {"paths", "/static/*", `"tokens": 5`}, {"tenants", "acme", `"tokens": 4`}, {"tenants", "t/acme", `"tokens": 4`},
		{"pairs", "alice:/orders", `"tokens": 4`}, {"watched", "all", `"tokens": 1`},
	} {
		if r := g.weir("", "bucket", "get", c.policy, c.key, "-o", "json"); r.code != 0 || !strings.Contains(r.out, c.want) || !strings.Contains(r.out, `"layer": "l7"`) {
			t.Errorf("bucket %s %s: %+v, want %s", c.policy, c.key, r, c.want)
		}
	}
	if r := g.weir("", "bucket", "get", "pairs", "alice\n/orders"); r.code != 0 || !strings.Contains(r.out, "bucket      alice, /orders\ntokens      4 of 5\n") {
		t.Errorf("bucket of two values: %+v", r)
	}
	if r := g.weir("", "bucket", "get", "login", "192.0.2.1", "--interface", "eth0"); r.code != 2 || !strings.Contains(r.err, "at no interface") {
		t.Errorf("with an interface: %+v", r)
	}
	if r := g.weir("", "bucket", "get", "watched", "some"); r.code != 2 || !strings.Contains(r.err, "want all, or -") {
		t.Errorf("a key of a global policy: %+v", r)
	}
}

// gateExplain: which policies apply to a request, of the daemon and of a file.
func gateExplain(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile+"deny: [198.51.100.0/24]\n")
	const want = `POST /login, from 192.0.2.1, user alice, tenant acme: it passes if users and login admit it

POLICY   EFFECT  BUCKET     REASON
keys     none               no API key is known
users    charge  alice      5/h, burst 5
login    charge  192.0.2.1  3/h, burst 3
watched  none               method POST is not DELETE
`
	request := []string{"policy", "explain", "--ip", "192.0.2.1", "--method", "POST", "--endpoint", "/login", "--user", "alice", "--metadata", "tenant=acme"}
	g.wantRan(0, want, request...)
	g.wantRan(0, want, append(request, "-c", g.file)...)
	if r := g.weir("", "policy", "explain", "--ip", "198.51.100.9", "-o", "json"); r.code != 0 ||
		!strings.Contains(r.out, `"verdict": "drop"`) || !strings.Contains(r.out, `"prefix": "198.51.100.0/24"`) {
		t.Errorf("denied: %+v", r)
	}
	if r := g.weir("", "policy", "explain", "--ip", "192.0.2.1", "--proto", "udp"); r.code != 2 || !strings.Contains(r.err, "belong together") {
		t.Errorf("of both: %+v", r)
	}
	if a := g.ask("GET", "/v1/buckets/login/192.0.2.1", ""); a.status != 403 {
		t.Errorf("a bucket over TCP: %d %s", a.status, a.body)
	}
	g.wantPasses("nothing was charged", 3, 3, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
}

// gateGet: policies of layer 7 are listed, with what they counted, and changed, by who may use the socket.
func gateGet(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.wantPasses("logins", 5, 3, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
	g.wantRan(0, `login
  scope           per_ip, layer l7
  rate            3/h, burst 3
  mode            enforce, priority 0
  one bucket for  each IPv4 /32, each IPv6 /64
  on pressure     pass
  only endpoints  /login

  VERDICT      REQUESTS
  pass                3
  drop                2
  shadow-drop         0
`, "policy", "get", "login")
	g.wantRan(0, `POLICY   SCOPE        RATE  BURST  LAYER  MODE     PRIORITY  PREFIX   ON PRESSURE  ONLY
login    per_ip       3/h       3  l7     enforce         0  /32 /64  pass         endpoints /login
users    per_user     5/h       5  l7     enforce         2           pass
keys     per_api_key  7/h       7  l7     enforce         3           pass
watched  global       1/h       1  l7     shadow          0           pass         methods DELETE
`, "policy", "list")
	r := g.weir("", "status")
	for _, want := range []string{
		"requests  5, 3 allowed, 2 exceeded", "login    enforce     3     2            0\n", "table  1,024 entries, 16 KiB, of layer 7", "claimed   1  0.1 %",
	} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("status lacks %q: %+v", want, r)
		}
	}
	g.wantRan(0, "  unchanged  login\n- removed    users\n  unchanged  keys\n  unchanged  watched\n\nin force until the file is loaded again, at a change of it, at SIGHUP, or when weir run starts anew\n",
		"policy", "delete", "users")
	other := g.writeFile("other.yaml", "policies: [{name: login, scope: per_ip, limit: 4, window: 1h, match: {endpoints: [/login]}}]\n")
	if r := g.weir("", "policy", "apply", "-f", other); r.code != 0 || !strings.Contains(r.out, "limit: 3 -> 4") {
		t.Errorf("apply: %+v", r)
	}
	if r := g.weir("", "policy", "get", "users"); r.code != 1 || !strings.Contains(r.err, "there are: login") {
		t.Errorf("get of one that is gone: %+v", r)
	}
	for _, args := range [][]string{{"policy", "delete", "users"}, {"policy", "delete", "users", "--dry-run"}, {"bucket", "get", "users", "alice"}} {
		if r := g.weir("", args...); r != (ran{code: 1, err: "weir: no policy \"users\" is loaded (there are: login)\n"}) {
			t.Errorf("weir %v of one that is gone: %+v", args, r)
		}
	}
}

// gateLists: allow and deny hold at layer 7.
func gateLists(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile+"allow: [192.0.2.0/28]\ndeny: [198.51.100.0/24]\n")
	g.wantPasses("who is allowed", 9, 9, `{"client_ip":"192.0.2.1","endpoint":"/login"}`)
	g.wantRan(0, "denied: the client is in deny\n", "check", "--ip", "198.51.100.9", "--endpoint", "/else")
	g.wantRan(0, "allowed: the client is in allow\n", "check", "--ip", "192.0.2.1", "--endpoint", "/login")
}

// gateRLS: Envoy's service by policies, then by the configuration of envoyproxy/ratelimit, which is loaded
// again when it changes, and not when it is bad.
func gateRLS(t *testing.T, binary string) {
	g := prepareGate(t, binary, "server: {http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\"}\n"+gateFile)
	g.user = nobody
	g.start("--watch")
	conn, err := grpc.NewClient(g.listening("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	passes := func(times int, domain, key, value string) (passed int) {
		t.Helper()
		for range times {
			answer, err := rls.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), &rls.RateLimitRequest{
				Domain: domain, Descriptors: []*ratelimit.RateLimitDescriptor{{Entries: []*ratelimit.RateLimitDescriptor_Entry{{Key: key, Value: value}}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if answer.OverallCode == rls.RateLimitResponse_OK {
				passed++
			}
		}
		return passed
	}
	if got := passes(7, "weir", "user", "alice"); got != 5 {
		t.Errorf("by policies %d of 7 pass, want 5", got)
	}
	const rule = "domain: shop\ndescriptors: [{key: path, value: /buy, rate_limit: {unit: hour, requests_per_unit: 2}}]\n"
	if err := os.Mkdir(filepath.Join(g.dir, "rls"), 0o755); err != nil {
		t.Fatal(err)
	}
	g.writeFile("rls/shop.yaml", rule)
	g.write("server: {http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", rls_config: [" + g.dir + "/rls]}\n" + gateFile)
	g.process.waitLog("msg=reloaded", 1)
	if got := passes(4, "shop", "path", "/buy"); got != 2 {
		t.Errorf("by the configuration %d of 4 pass, want 2", got)
	}
	g.writeFile("rls/shop.yaml", strings.Replace(rule, "hour", "eon", 1))
	g.process.waitLog("the file is not reloaded", 1)
	if got := passes(2, "shop", "path", "/buy"); got != 0 {
		t.Errorf("after a bad file %d of 2 pass, want 0", got)
	}
	g.writeFile("rls/shop.yaml", strings.Replace(rule, "unit: 2", "unit: 5", 1))
	g.process.waitLog("msg=reloaded", 2)
	if got := passes(9, "shop", "path", "/buy"); got == 0 || got > 3 {
		t.Errorf("after the mend %d of 9 pass, want up to 3: two are spent", got)
	}
	// Files that are named for the first time are looked at again too, if they were not good at once.
	more := g.writeFile("more.yaml", strings.Replace(rule, "hour", "eon", 1))
	g.write("server: {http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", rls_config: [" + more + "]}\n" + gateFile)
	g.process.waitLog("the file is not reloaded", 2)
	g.writeFile("more.yaml", strings.Replace(rule, "shop", "market", 1))
	g.process.waitLog("msg=reloaded", 3)
	if got := passes(3, "market", "path", "/buy"); got != 2 {
		t.Errorf("by the file that was mended %d of 3 pass, want 2", got)
	}
}
