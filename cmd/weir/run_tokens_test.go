package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer signs tokens, and publishes its key.
type issuer struct {
	t   *testing.T
	id  string
	key *ecdsa.PrivateKey
	*httptest.Server
}

func newIssuer(t *testing.T, id string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, id: id, key: key}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: id, Algorithm: string(jose.ES256), Use: "sig"}}}
		_ = json.NewEncoder(w).Encode(set)
	}))
	t.Cleanup(i.Close)
	return i
}

// token says who somebody is, for an hour.
func (i *issuer) token(user string) string {
	i.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: i.id}}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: user, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// gateTokens: users are those of tokens, by the issuer that the file names now, whose keys the daemon fetches.
func gateTokens(t *testing.T, binary string) {
	first, second := newIssuer(t, "first"), newIssuer(t, "second")
	by := func(i *issuer) string {
		return fmt.Sprintf("server: {http: \"127.0.0.1:0\", jwt: {jwks_url: %q}}\n", i.URL) + gateFile
	}
	g := newGate(t, binary, gateFile)
	// known tells whether a token makes its user known: then there are figures of a policy per user.
	known := func(token string) bool {
		t.Helper()
		a := g.ask("GET", "/v1/auth", "", "Authorization", "Bearer "+token)
		if a.status != 200 && a.status != 429 {
			t.Fatalf("auth: %d %s", a.status, a.body)
		}
		return a.header.Get("X-RateLimit-Policy") == "users"
	}
	if known(first.token("alice")) {
		t.Error("a token is believed, and the file has no jwt")
	}
	for n, now := range []*issuer{first, second} {
		g.write(by(now))
		g.reload("msg=reloaded", n+1)
		eventually(t, "the keys of "+now.id, func() error {
			if !known(now.token(fmt.Sprintf("user-%d", time.Now().UnixNano()))) {
				return fmt.Errorf("its tokens are not believed")
			}
			return nil
		})
		other := map[*issuer]*issuer{first: second, second: first}[now]
		if known(other.token("alice")) {
			t.Errorf("by %s: a token of %s is believed", now.id, other.id)
		}
	}
	passed := 0
	for range 7 {
		if g.ask("GET", "/v1/auth", "", "Authorization", "Bearer "+second.token("carol")).status == 200 {
			passed++
		}
	}
	if passed != 5 {
		t.Errorf("%d requests of carol pass, want 5", passed)
	}
}

// gateTokensWithoutKeys: an issuer that is away is seen in metrics, by readyz and by doctor, and why a token is
// not believed is counted.
func gateTokensWithoutKeys(t *testing.T, binary string) {
	away := newIssuer(t, "away")
	away.Close()
	g := newGate(t, binary, "server: {http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", jwt: {jwks_url: "+strconv.Quote(away.URL)+"}}\n"+gateFile)
	if a := g.ask("GET", "/v1/auth", "", "Authorization", "Bearer "+away.token("alice")); a.status != 200 {
		t.Errorf("auth: %d %s", a.status, a.body)
	}
	g.process.waitLog("keys of tokens can't be had", 1)
	a := g.ask("GET", "/metrics", "")
	for _, want := range []string{
		"rate_limiter_identity_keys 0", `rate_limiter_identity_rejected_total{reason="no_keys"} 1`,
		`rate_limiter_identity_rejected_total{reason="expired"} 0`, "rate_limiter_rls_unknown_domains_total 0",
	} {
		if !strings.Contains(a.body, "\n"+want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if a := g.ask("GET", "/readyz", ""); a.status != 200 || !strings.Contains(a.body, `"warnings":["server.jwt: there are no keys yet`) || strings.Contains(a.body, away.URL) {
		t.Errorf("readyz: %d %s, want it ready, with a warning that does not tell where the keys are", a.status, a.body)
	}
	for _, command := range []string{"doctor", "status"} {
		if r := g.weir("", command); r.code != 0 || !strings.Contains(r.out, "no token is believed") {
			t.Errorf("%s: %+v, want the warning", command, r)
		}
	}
}
