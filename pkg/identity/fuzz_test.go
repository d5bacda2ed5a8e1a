package identity

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

var (
	trustedPeer  = netip.MustParseAddr("10.0.0.1")
	trustedRange = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
)

func trusts(addr netip.Addr) bool {
	return trustedRange[0].Contains(addr) || trustedRange[1].Contains(addr)
}

// fuzzChain asks, for any header, the three things that hold of it: who is not trusted says nothing, what a
// proxy appends counts whatever is before it, and an address is a plain one.
func fuzzChain(f *testing.F, header string, appended func(addr string) string) {
	f.Fuzz(func(t *testing.T, value string) {
		some := &Resolver{trusted: policy.NewPrefixSet(trustedRange)}
		ask := func(r *Resolver, peer string, lines ...string) netip.Addr {
			req := &http.Request{RemoteAddr: peer, Header: http.Header{header: lines}}
			return r.clientIP(r.httpPeer(req), &headers{http: req.Header})
		}
		if got := ask(&Resolver{}, "10.0.0.1:1", value); got != trustedPeer {
			t.Errorf("without trusted proxies the client is %v", got)
		}
		if got := ask(some, "203.0.113.66:1", value); got != elsewhere {
			t.Errorf("of an untrusted peer the client is %v", got)
		}
		for _, lines := range [][]string{
			{value + ", " + appended("203.0.113.66")}, {value, appended("203.0.113.66")},
			{value + "," + appended("203.0.113.66") + " , " + appended("10.0.0.2")},
		} {
			if got := ask(some, "10.0.0.1:1", lines...); got != elsewhere {
				t.Errorf("behind %q the client is %v", lines, got)
			}
		}
		if got := ask(some, "10.0.0.1:1", value); !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("the client is %v", got)
		} else if !trusts(got) && !strings.Contains(strings.ReplaceAll(value, `\`, ""), ".") && !strings.Contains(value, ":") {
			t.Errorf("the client %v is not in %q", got, value)
		}
	})
}

func FuzzXFF(f *testing.F) {
	for _, seed := range []string{"", ",", "9.9.9.9", "9.9.9.9, 10.0.0.2", "[2001:db8::1]:80", "fe80::1%eth0", "unknown", "::ffff:1.2.3.4:80", strings.Repeat("10.0.0.2,", 70)} {
		f.Add(seed)
	}
	fuzzChain(f, "X-Forwarded-For", func(addr string) string { return addr })
}

func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"", ";", "for=9.9.9.9", `for="[2001:db8::1]:80";proto=http, for=_x`, `for="9.9.9.9`, `for="\"`, `for=10.0.0.2;host="a,\"b"`, `x="\\",for=9.9.9.9`} {
		f.Add(seed)
	}
	fuzzChain(f, "Forwarded", func(addr string) string { return `proto=https;for="` + addr + `:80"` })
}

// FuzzRequest: whatever a request has in it, its context keeps the rules, or there is a whole error and none.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a?b", "9.9.9.9", "ann", "k3y", "/x?y", "Bearer a.b.c", true)
	f.Add("po st", "/%2e%2e/\x00", "", "a\nb", strings.Repeat("x", 2000), "http://a", "bearer", false)
	v := verifier(f, VerifierOptions{SecretFile: write(f, secret)})
	f.Fuzz(func(t *testing.T, method, path, xff, user, key, uri, auth string, trusted bool) {
		o := usual()
		o.JWT = v
		if trusted {
			o.TrustedProxies = trustedRange
		}
		req := httptest.NewRequest("GET", "/", nil)
		req.Method, req.URL.Path, req.RemoteAddr = method, path, "10.0.0.1:1"
		req.Header = http.Header{
			"X-Forwarded-For": {xff}, "X-User": {user}, "X-Tenant": {user}, "X-Api-Key": {key}, "X-Forwarded-Uri": {uri}, "X-Original-Uri": {path}, "Authorization": {auth},
		}
		r := resolver(t, o)
		for _, ask := range []func(*http.Request) (policy.RequestContext, error){r.Request, r.ForwardAuth} {
			c, err := ask(req)
			if err != nil {
				if wrong, ok := err.(*FieldError); !ok || wrong.Field == "" || wrong.Problem == "" || wrong.Mend == "" {
					t.Errorf("error %#v", err)
				}
				if c.Method != "" || c.ClientIP.IsValid() || c.UserID != "" || c.APIKey != "" || c.Metadata != nil {
					t.Errorf("an error, and the context %v", c)
				}
				continue
			}
			if !trusted && (c.ClientIP != trustedPeer || c.UserID != "" || c.UserRole != "" || c.Metadata != nil || c.Endpoint != req.URL.EscapedPath()) {
				t.Errorf("untrusted, and the context is %v", c)
			}
			if key != "" && (len(c.APIKey) != 32 || c.APIKey == key) {
				t.Errorf("API key %q", c.APIKey)
			}
			for _, s := range []string{c.Method, c.Endpoint, c.UserID, c.UserRole, c.Metadata["tenant"]} {
				if checkText("", s) != nil {
					t.Errorf("the context has %q", s)
				}
			}
		}
	})
}
