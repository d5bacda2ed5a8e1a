package identity

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func request(headers ...string) *http.Request {
	req := httptest.NewRequest("GET", "/api/v2/things", nil)
	req.RemoteAddr, req.Header = "127.0.0.1:4711", lines(headers...)
	return req
}

// TestAllocations: a request costs the heap what it has to show for it, and nothing else.
func TestAllocations(t *testing.T) {
	o := usual(proxies...)
	o.MetadataHeaders = nil
	o.JWT = verifier(t, VerifierOptions{KeyFile: write(t, publicPEM(rsaKey().Public()))})
	token := "Authorization: Bearer " + sign(t, jose.RS256, rsaKey(), "", ann())
	for _, test := range []struct {
		name    string
		headers []string
		want    float64
	}{
		{"proxy and user", []string{"X-Forwarded-For: 9.9.9.9, 203.0.113.66", "X-User: ann", "X-Role: premium", "X-Request-Id: r-1"}, 0},
		{"Forwarded", []string{`Forwarded: for="[2001:db8::66]:4711";proto=https`}, 0},
		{"forward-auth", []string{"X-Forwarded-For: 203.0.113.66", "X-Forwarded-Uri: /a?b", "X-Forwarded-Method: POST"}, 0},
		{"a token that is known", []string{token}, 0},
		{"API key, whose digest is a string", []string{"X-API-Key: k3y"}, 1},
	} {
		r, req := resolver(t, o), request(test.headers...)
		if _, err := r.ForwardAuth(req); err != nil {
			t.Fatal(err)
		}
		if got := testing.AllocsPerRun(100, func() { r.ForwardAuth(req) }); got != test.want {
			t.Errorf("%s: %v allocations, want %v", test.name, got, test.want)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	v := verifier(b, VerifierOptions{KeyFile: write(b, publicPEM(rsaKey().Public()))})
	for _, bench := range []struct {
		name    string
		headers []string
	}{
		{"direct", nil},
		{"proxy", []string{"X-Forwarded-For: 9.9.9.9, 203.0.113.66", "X-User: ann", "X-Role: premium"}},
		{"forwarded", []string{`Forwarded: for=9.9.9.9, for="[2001:db8::66]:4711";proto=https`}},
		{"api-key", []string{"X-API-Key: k3y"}},
		{"token", []string{"Authorization: Bearer " + sign(b, jose.RS256, rsaKey(), "", ann())}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			o := DefaultOptions()
			o.TrustedProxies, o.JWT = proxies, v
			r, req := resolver(b, o), request(bench.headers...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Request(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What every request with a token would cost, if tokens that verified were not remembered.
	b.Run("token-unknown", func(b *testing.B) {
		token := sign(b, jose.RS256, rsaKey(), "", ann())
		b.ReportAllocs()
		for b.Loop() {
			if _, why := v.payload(v.keys.Load(), token); why != accepted {
				b.Fatal(why)
			}
		}
	})
}
