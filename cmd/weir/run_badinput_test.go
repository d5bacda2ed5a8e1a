package main_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// refusals has ways to say something that makes no sense, with what the answer has to name: where, and what.
type refusal struct{ sent, where, what string }

var long = strings.Repeat("x", 1025)

// badPolicies are wrong by one field, written as YAML and JSON both are.
var badPolicies = []refusal{
	{`{"name":"bad","scope":"per_user","limit":0,"window":"1h"}`, "limit", "must be at least 1"},
	{`{"name":"bad","scope":"per_user","limit":-1,"window":"1h"}`, "limit", "-1"},
	{`{"name":"bad","scope":"per_user","limit":99999999999999999999,"window":"1h"}`, "limit", "9999"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"0s"}`, "window", "must be longer than 0"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"365000000d"}`, "window", "365000000d"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1000000y"}`, "window", "1000000y"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","burst":0}`, "burst", "at least 1"},
	{`{"name":"bad","scope":"per_moon","limit":5,"window":"1h"}`, "scope", "per_moon"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","colour":"red"}`, "colour", "unknown field"},
	{`{"name":"bad","scope":"per_ip","layer":"l7","limit":5,"window":"1h","match":{"sources":["300.1.2.3"]}}`, "match.sources[0]", "300.1.2.3"},
	{`{"name":"bad","scope":"custom","limit":5,"window":"1h","key":"{planet}"}`, "key", "planet"},
	{`{"name":"bad","scope":"custom","limit":5,"window":"1h","key":"{user"}`, "key", "is not closed"},
	{`{"name":"bad","scope":"custom","limit":5,"window":"1h","key":"` + long + `{user}"}`, "key", "bytes"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","headers":{"X-A":"b\r\nSet-Cookie: c=d"}}`, "headers", "control character"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","headers":{"X-A\r\nSet-Cookie":"c"}}`, "headers", "X-A"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","headers":{"Content-Length":"9"}}`, "headers", "Content-Length"},
	{`{"name":"b\u0007d","scope":"per_user","limit":5,"window":"1h"}`, "name", "name"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","match":{"users":["a\u0007b"]}}`, "match.users", "control character"},
	{`{"name":"bad","scope":"per_user","limit":5,"window":"1h","match":{"endpoints":["` + "/" + long + `"]}}`, "match.endpoints", "bytes"},
}

// gateBadPolicies: whoever writes policies is told all that is wrong with them, by place, and they change nothing.
func gateBadPolicies(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	g.wantPasses("before", 2, 2, `{"user_id":"alice"}`)
	for _, c := range badPolicies {
		g.write(gateFile + "  - " + c.sent + "\n")
		r := g.weir("", "policy", "validate", g.file)
		place := regexp.MustCompile(`(?m)` + regexp.QuoteMeta(g.file) + `:8:\d+: `)
		if r.code != 1 || !place.MatchString(r.out) || !strings.Contains(r.out, lastName(c.where)) || !strings.Contains(r.out, c.what) {
			t.Errorf("file %.90s: %+v, want %s and %s at line 8", c.sent, r, c.where, c.what)
		}
		for path, sent := range map[string]string{"/v1/policies": `{"policies":[` + c.sent + `]}`, "/v1/policies/bad": c.sent} {
			a := g.admin("PUT", path, sent)
			var said struct {
				Errors []struct{ Field, Problem string }
				Detail string
			}
			_ = json.Unmarshal([]byte(a.body), &said)
			text := said.Detail
			for _, e := range said.Errors {
				text += "\n" + e.Field + ": " + e.Problem
			}
			if a.status != 400 && a.status != 422 || !strings.Contains(text, c.where) && !strings.Contains(text, c.what) || !strings.Contains(text, c.what) {
				t.Errorf("PUT %s %.90s: %d %.300s, want %s and %s", path, c.sent, a.status, a.body, c.where, c.what)
			}
		}
	}
	g.reload("the file is not reloaded", 1)
	g.wantPasses("after", 4, 3, `{"user_id":"alice"}`)
	g.wantSound()
}

// lastName is the last name of a path: a file's line shows where it is.
func lastName(path string) string {
	path, _, _ = strings.Cut(path[strings.LastIndexByte(path, '.')+1:], "[")
	return path
}

// wantSound holds that the daemon has nothing to complain of itself.
func (g *gate) wantSound() {
	g.t.Helper()
	if a := g.ask("GET", "/healthz", ""); a.status != 200 {
		g.t.Errorf("healthz: %d", a.status)
	}
	if log := g.process.log.String(); strings.Contains(log, "defect") || strings.Contains(log, "panic") {
		g.t.Errorf("log: %s", log)
	}
}

// gateTenThousand: as many policies as there may be are put in force, and one more is refused, by API and by file.
func gateTenThousand(t *testing.T, binary string) {
	g := newGate(t, binary, gateFile)
	const most = 10_000
	of := func(n int, head, between, tail string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			if i > 0 {
				b.WriteString(between)
			}
			fmt.Fprintf(&b, `{"name":"p%d","scope":"per_user","limit":%d,"window":"1h","match":{"users":["u%d"]}}`, i, 2+i%5, i)
		}
		return b.String() + tail
	}
	start := time.Now()
	if a := g.admin("PUT", "/v1/policies", of(most, `{"policies":[`, ",", "]}")); a.status != 200 || strings.Count(a.body, `"added"`) < most {
		t.Fatalf("PUT of %d: %d %.300s", most, a.status, a.body)
	}
	t.Logf("PUT of %d policies: %s", most, time.Since(start))
	start = time.Now()
	g.wantPasses("by the last of them", 8, 6, `{"user_id":"u9999"}`)
	t.Logf("a request with %d policies: %s", most, time.Since(start)/8)
	if a := g.admin("PUT", "/v1/policies", of(most+1, `{"policies":[`, ",", "]}")); a.status != 400 || !says(a.body, "policies") || !says(a.body, "at most 10000") {
		t.Errorf("PUT of one more: %d %.300s", a.status, a.body)
	}
	if a := g.admin("PUT", "/v1/policies/more", `{"scope":"per_user","limit":1,"window":"1h"}`); a.status != 422 || !says(a.body, "at most 10000") {
		t.Errorf("PUT of a single one more: %d %.300s", a.status, a.body)
	}
	g.wantPasses("as before", 2, 0, `{"user_id":"u9999"}`)
	g.write(of(most+1, "policies:\n  - ", "\n  - ", "\n"))
	g.reload("the file is not reloaded", 1)
	if log := g.process.log.String(); !strings.Contains(log, "at most 10000") {
		t.Errorf("log: %.600s", log)
	}
	g.write(of(most, "policies:\n  - ", "\n  - ", "\n"))
	start = time.Now()
	g.reload("msg=reloaded", 1)
	t.Logf("a file of %d policies: %s", most, time.Since(start))
	g.wantPasses("after the file", 2, 0, `{"user_id":"u9999"}`)
	g.wantSound()
}

// badChecks are bodies of /v1/check.
var badChecks = []refusal{
	{`{"key":"` + long + `","limit":10,"window":"1h"}`, "key", "has 1025 bytes"},
	{`{"key":"a\nb","limit":10,"window":"1h"}`, "key", "control character"},
	{`{"key":"","limit":10,"window":"1h"}`, "key", "is empty"},
	{`{"key":"alice","limit":0,"window":"1h"}`, "limit", "at least 1"},
	{`{"key":"alice","limit":-3,"window":"1h"}`, "limit", "whole number"},
	{`{"key":"alice","limit":1e3,"window":"1h"}`, "limit", "whole number"},
	{`{"key":"alice","limit":10,"window":"0s"}`, "window", "longer than 0"},
	{`{"key":"alice","limit":10,"window":0}`, "window", "longer than 0"},
	{`{"key":"alice","limit":10,"window":"-1h"}`, "window", "-1h"},
	{`{"key":"alice","limit":10,"window":31556952000000}`, "window", "too long"},
	{`{"key":"alice","limit":10,"window":"365000000d"}`, "window", "365000000d"},
	{`{"key":"alice","limit":10,"window":"90000d"}`, "window", "90000d"},
	{`{"key":"alice","limit":10,"window":"1h","hits":11}`, "hits", "a full bucket holds 10"},
	{`{"key":"alice","limit":10,"window":"1h","hits":18446744073709551615}`, "hits", "a full bucket holds 10"},
	{`{"context":{"user_id":"alice"},"hits":6}`, "hits", "a full bucket of policy users holds 5"},
	{`{"key":"alice","limit":10,"window":"1h"`, "byte 39", "JSON"},
	{`{"key":"alice","limit":10,"window":"1h"} {}`, "byte 4", "JSON"},
	{`[]`, "body", "want an object"},
	{``, "body", "empty"},
	{"{\"key\":\"\xff\"}", "body", "UTF-8"},
	{`{"context":{"user_id":"alice","colour":"red"}}`, "context.colour", "unknown field"},
	{`{"context":{"user_id":"alice","client_ip":"300.1.2.3"}}`, "context.client_ip", "IP address"},
	{`{"context":{"user_id":"alice","client_ip":"fe80::1%eth0"}}`, "context.client_ip", "zone"},
	{`{"context":{"user_id":"` + long + `"}}`, "context.user_id", "has 1025 bytes"},
	{`{"context":{"user_id":"alice","endpoint":"/a\u0000"}}`, "context.endpoint", "control character"},
	{`{"context":{"user_id":"alice","api_key":"a\u0007"}}`, "context.api_key", "control character"},
	{`{"context":{"user_id":"alice","metadata":{"a":"\u001b[2J"}}}`, `context.metadata["a"]`, "control character"},
	{`{"context":{"user_id":"alice","metadata":{"":"a"}}}`, "context.metadata", "must not be empty"},
	{`{"context":{"user_id":"alice"},"limit":5}`, "limit", "beside context"},
	{`{"context":{"user_id":"alice"}, "pad":"` + strings.Repeat("x", 64<<10) + `"}`, "body", "larger than 65536 bytes"},
	{strings.Repeat("[", 30000), "byte", "JSON"},
}

// gateBadRequests: a request that makes no sense is told what and where, and costs nobody anything.
func gateBadRequests(t *testing.T, binary string) {
	g := newGate(t, binary, "server: {http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1/32]}\n"+gateFile)
	const own = `{"key":"alice","limit":10,"window":"1h","hits":%d}`
	g.ask("POST", "/v1/check", fmt.Sprintf(own, 1))
	g.wantPasses("before", 1, 1, `{"user_id":"alice","client_ip":"127.0.0.1","endpoint":"/login"}`)
	for _, c := range badChecks {
		if a := g.ask("POST", "/v1/check", c.sent); a.status != 400 || !says(a.body, c.where) || !says(a.body, c.what) {
			t.Errorf("check %.90s: %d %.300s, want 400, %s and %s", c.sent, a.status, a.body, c.where, c.what)
		}
	}
	g.badAuth()
	g.badRLS()
	g.badCommands()
	for _, c := range []struct{ policy, key, want string }{{"users", "alice", `"remaining":4`}, {"login", "127.0.0.1", `"remaining":2`}} {
		if a := g.admin("GET", "/v1/buckets/"+c.policy+"/"+c.key, ""); !says(a.body, c.want) {
			t.Errorf("bucket of %s: %d %s, want %s", c.policy, a.status, a.body, c.want)
		}
	}
	if a := g.ask("POST", "/v1/check", fmt.Sprintf(own, 0)); !says(a.body, `"remaining":9`) {
		t.Errorf("bucket of the key: %d %s, want 9 left", a.status, a.body)
	}
	g.wantSound()
}

// says finds a text in JSON.
func says(body, text string) bool {
	return strings.Contains(body, text) || strings.Contains(strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(body), text)
}

// badAuth asks as a proxy would that was set up badly, or whose client is odd.
func (g *gate) badAuth() {
	g.t.Helper()
	for _, c := range []struct {
		query, where, what string
		header             []string
	}{
		{"?hits=9", "hits", "holds 5", []string{"X-User", "alice"}},
		{"?hits=-1", "hits", "whole number", []string{"X-User", "alice"}},
		{"?hits=0;deny=403", "query", "semicolon", []string{"X-User", "alice"}},
		{"?deny=200", "deny", "403 or 429", []string{"X-User", "alice"}},
		{"?colour=red", "colour", "unknown parameter", []string{"X-User", "alice"}},
		{"", "X-User", "has 1025 bytes", []string{"X-User", long}},
		{"", "path", "bytes", []string{"X-User", "alice", "X-Original-URI", "/" + long}},
		{"", "X-Forwarded-Uri", "is not what it is for", []string{"X-User", "alice", "X-Forwarded-Uri", "login"}},
		{"", "X-Original-Uri", "contradicts", []string{"X-User", "alice", "X-Original-URI", "/login", "X-Forwarded-Uri", "/else"}},
		{"", "method", "bytes", []string{"X-User", "alice", "X-Original-Method", long}},
	} {
		if a := g.ask("GET", "/v1/auth"+c.query, "", c.header...); a.status != 400 || !says(a.body, c.where) || !says(a.body, c.what) {
			g.t.Errorf("auth%s %.60q: %d %s, want 400, %s and %s", c.query, c.header, a.status, a.body, c.where, c.what)
		}
		// nginx knows no 400 of a subrequest: it is told in a header.
		sign := "?deny=403"
		if c.query != "" {
			sign = c.query + "&deny=403"
		}
		if c.where == "query" || c.where == "deny" {
			continue
		}
		if a := g.ask("GET", "/v1/auth"+sign, "", c.header...); c.query == "" && (a.status != 403 || a.header.Get("X-RateLimit-Status") != "400") {
			g.t.Errorf("auth%s: %d %v, want 403 that says 400", sign, a.status, a.header)
		}
	}
}

// badRLS asks as Envoy would.
func (g *gate) badRLS() {
	g.t.Helper()
	conn, err := grpc.NewClient(g.listening("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	entry := func(pairs ...string) *ratelimit.RateLimitDescriptor {
		d := &ratelimit.RateLimitDescriptor{}
		for i := 0; i < len(pairs); i += 2 {
			d.Entries = append(d.Entries, &ratelimit.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
		}
		return d
	}
	alice, many := entry("user", "alice"), []*ratelimit.RateLimitDescriptor{}
	for range 257 {
		many = append(many, alice)
	}
	limited := entry("user", "alice")
	limited.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 1, Unit: 1, UnitMultiplier: wrapperspb.UInt32(1 << 31)}
	for _, c := range []struct {
		req  *rls.RateLimitRequest
		code codes.Code
		what string
	}{
		{&rls.RateLimitRequest{Descriptors: []*ratelimit.RateLimitDescriptor{alice}}, codes.InvalidArgument, "domain"},
		{&rls.RateLimitRequest{Domain: "weir"}, codes.InvalidArgument, "descriptor list"},
		{&rls.RateLimitRequest{Domain: "weir", Descriptors: many}, codes.InvalidArgument, "at most 256"},
		{&rls.RateLimitRequest{Domain: "weir", Descriptors: []*ratelimit.RateLimitDescriptor{alice, entry("client_ip", "300.1.2.3")}}, codes.InvalidArgument, "descriptors[1].entries[0]"},
		{&rls.RateLimitRequest{Domain: "weir", Descriptors: []*ratelimit.RateLimitDescriptor{alice, entry("user", "alice", "user", "bob")}}, codes.InvalidArgument, "descriptors[1].entries[1]"},
		{&rls.RateLimitRequest{Domain: "weir", Descriptors: []*ratelimit.RateLimitDescriptor{alice, entry("", "a")}}, codes.InvalidArgument, "descriptors[1].entries[0]"},
		{&rls.RateLimitRequest{Domain: "weir", Descriptors: []*ratelimit.RateLimitDescriptor{alice, limited}}, codes.InvalidArgument, "descriptors[1].limit"},
		{&rls.RateLimitRequest{Domain: "weir", Descriptors: []*ratelimit.RateLimitDescriptor{entry("user", "alice", "pad", strings.Repeat("x", 2<<20))}}, codes.ResourceExhausted, "larger than max"},
	} {
		answer, err := rls.NewRateLimitServiceClient(conn).ShouldRateLimit(g.t.Context(), c.req)
		if status.Code(err) != c.code || !strings.Contains(fmt.Sprint(err), c.what) {
			g.t.Errorf("RLS %.90s: %v %v, want %v and %s", c.req, answer, err, c.code, c.what)
		}
	}
	// More hits than a bucket holds are denied: Envoy has no ear for more.
	answer, err := rls.NewRateLimitServiceClient(conn).ShouldRateLimit(g.t.Context(), &rls.RateLimitRequest{
		Domain: "weir", HitsAddend: 6, Descriptors: []*ratelimit.RateLimitDescriptor{alice},
	})
	if err != nil || answer.OverallCode != rls.RateLimitResponse_OVER_LIMIT {
		g.t.Errorf("RLS with 6 hits: %v %v, want it over the limit", answer, err)
	}
}

// badCommands asks as somebody at a terminal would.
func (g *gate) badCommands() {
	g.t.Helper()
	for _, c := range []struct {
		code int
		what string
		args []string
	}{
		{1, "key: has 1025 bytes", []string{long, "--limit", "10", "--window", "1h"}},
		{1, "key: has a control character", []string{"a\nb", "--limit", "10", "--window", "1h"}},
		{1, "limit: must be at least 1", []string{"alice", "--limit", "0", "--window", "1h"}},
		{1, "window: ", []string{"alice", "--limit", "10", "--window", "0s"}},
		{1, "limit: 10/90000d is slower", []string{"alice", "--limit", "10", "--window", "90000d"}},
		{2, "--window", []string{"alice", "--limit", "10", "--window", "1000000y"}},
		{1, "hits: asks for 11", []string{"alice", "--limit", "10", "--window", "1h", "--hits", "11"}},
		{2, "300.1.2.3", []string{"--ip", "300.1.2.3", "--user", "alice"}},
		{1, "context.user_id: has 1025 bytes", []string{"--user", long}},
		{2, "--metadata", []string{"--user", "alice", "--metadata", "tenant"}},
	} {
		r := g.weir("", append([]string{"check"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.what) || r.out != "" {
			g.t.Errorf("weir check %.60q: %+v, want exit code %d and %s", c.args, r, c.code, c.what)
		}
	}
}
