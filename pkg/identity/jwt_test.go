package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
)

var (
	noon = time.Unix(1_800_000_000, 0)
	// Keys are made once: RSA takes its time.
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	smallRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
	secret   = []byte(strings.Repeat("0123456789abcdef", 4)) // long enough for HS512
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ann() map[string]any { return map[string]any{"sub": "ann", "exp": noon.Unix() + 600} }

// sign makes a token, with a key ID unless that is empty.
func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, payload any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(must(json.Marshal(payload)))
	if err != nil {
		t.Fatal(err)
	}
	return must(jws.CompactSerialize())
}

// forge makes a token of a header and a signature of the caller's.
func forge(header string, payload any, signature []byte) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(header)) + "." + b64(must(json.Marshal(payload))) + "." + b64(signature)
}

func publicPEM(key any) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))})
}

func jwks(keys ...jose.JSONWebKey) []byte {
	return must(json.Marshal(jose.JSONWebKeySet{Keys: keys}))
}

func jwk(kid string, key crypto.PublicKey) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: kid, Use: "sig"}
}

func write(t testing.TB, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func verifier(t testing.TB, o VerifierOptions) *Verifier {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return noon }
	}
	v, err := NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func name(why reason) string {
	if why == accepted {
		return ""
	}
	return reasonNames[why]
}

func TestAlgorithms(t *testing.T) {
	p384, p521 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	set := jwks(jwk("rsa", rsaKey().Public()), jwk("ec", ecKey().Public()), jwk("p384", p384.Public()), jwk("p521", p521.Public()), jwk("ed", edKey().Public()))
	public, shared := verifier(t, VerifierOptions{JWKSFile: write(t, set)}), verifier(t, VerifierOptions{SecretFile: write(t, secret)})
	for _, test := range []struct {
		alg jose.SignatureAlgorithm
		key any
		kid string
		v   *Verifier
	}{
		{jose.RS256, rsaKey(), "rsa", public}, {jose.RS384, rsaKey(), "rsa", public}, {jose.RS512, rsaKey(), "rsa", public},
		{jose.PS256, rsaKey(), "rsa", public}, {jose.PS384, rsaKey(), "rsa", public}, {jose.PS512, rsaKey(), "rsa", public},
		{jose.ES256, ecKey(), "ec", public}, {jose.ES384, p384, "p384", public}, {jose.ES512, p521, "p521", public}, {jose.EdDSA, edKey(), "ed", public},
		{jose.HS256, secret, "", shared}, {jose.HS384, secret, "", shared}, {jose.HS512, secret, "any", shared},
		{jose.RS256, rsaKey(), "", public}, // without naming its key
	} {
		c, why := test.v.verify(sign(t, test.alg, test.key, test.kid, ann()))
		if why != accepted || c.user != "ann" {
			t.Errorf("%s with key %q: user %q, rejected as %q", test.alg, test.kid, c.user, name(why))
		}
	}
}

func TestRejected(t *testing.T) {
	rsaPEM := publicPEM(rsaKey().Public())
	options := VerifierOptions{
		JWKSFile: write(t, jwks(jwk("rsa", rsaKey().Public()), jwk("ec", ecKey().Public()))),
		Issuer:   "https://issuer.example", Audience: "weir", Leeway: 30 * time.Second, RoleClaim: "role",
	}
	v := verifier(t, options)
	with := func(name string, value any) map[string]any {
		c := map[string]any{"sub": "ann", "iss": "https://issuer.example", "aud": []string{"other", "weir"}, "exp": noon.Unix() + 600, "role": "premium"}
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	rs256 := func(payload any) string { return sign(t, jose.RS256, rsaKey(), "rsa", payload) }
	good := rs256(with("", nil))
	parts := strings.Split(good, ".")
	sig := must(base64.RawURLEncoding.DecodeString(parts[2]))
	b64 := base64.RawURLEncoding.EncodeToString

	for _, test := range []struct{ name, token, want string }{
		{"good", good, ""},
		{"good, once more", good, ""},
		{"alg none", forge(`{"alg":"none"}`, with("", nil), nil), "algorithm"},
		{"alg none with a signature", forge(`{"alg":"none","kid":"rsa"}`, with("", nil), sig), "algorithm"},
		{"alg None", forge(`{"alg":"None"}`, with("", nil), nil), "algorithm"},
		{"alg empty", forge(`{"alg":""}`, with("", nil), nil), "algorithm"},
		{"no alg", forge(`{}`, with("", nil), nil), "algorithm"},
		{"HS256 with the public key", sign(t, jose.HS256, rsaPEM, "rsa", with("", nil)), "algorithm"},
		{"ES256 with an RSA key's ID", sign(t, jose.ES256, ecKey(), "rsa", with("", nil)), "unknown_key"},
		{"another key with the ID of ours", sign(t, jose.RS256, otherRSA(), "rsa", with("", nil)), "signature"},
		{"another key with an ID of its own", sign(t, jose.RS256, otherRSA(), "mine", with("", nil)), "unknown_key"},
		{"another key without an ID", sign(t, jose.RS256, otherRSA(), "", with("", nil)), "signature"},
		{"its key in its header", signEmbedded(t, with("", nil)), "signature"},
		{"another payload", parts[0] + "." + b64(must(json.Marshal(with("sub", "bob")))) + "." + parts[2], "signature"},
		{"another header", b64([]byte(`{"alg":"PS256","kid":"rsa"}`)) + "." + parts[1] + "." + parts[2], "signature"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
		{"critical header", forge(`{"alg":"RS256","kid":"rsa","crit":["x"],"x":1}`, with("", nil), sig), "signature"},
		{"two parts", parts[0] + "." + parts[1], "malformed"},
		{"five parts", good + ".a.b", "malformed"},
		{"not base64", "%%." + parts[1] + "." + parts[2], "malformed"},
		{"not JSON", forge(`{"alg":`, with("", nil), sig), "malformed"},
		{"alg twice", forge(`{"alg":"RS256","alg":"none"}`, with("", nil), sig), "malformed"},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, "malformed"},
		{"empty", "", "malformed"},
		{"too long", good + strings.Repeat("A", maxToken), "too_long"},
		{"expired", rs256(with("exp", noon.Unix()-31)), "expired"},
		{"expired within the leeway", rs256(with("exp", noon.Unix()-29)), ""},
		{"not yet", rs256(with("nbf", noon.Unix()+31)), "not_yet_valid"},
		{"not yet, within the leeway", rs256(with("nbf", noon.Unix()+29)), ""},
		{"issued tomorrow", rs256(with("iat", noon.Unix()+86400)), "not_yet_valid"},
		{"never expires", rs256(with("exp", nil)), ""},
		{"expires after the end of time", rs256(with("exp", 1e300)), "claims"},
		{"expires at a text", rs256(with("exp", "tomorrow")), "claims"},
		{"issuer", rs256(with("iss", "https://issuer.example.evil")), "issuer"},
		{"no issuer", rs256(with("iss", nil)), "issuer"},
		{"audience", rs256(with("aud", "weir2")), "audience"},
		{"no audience", rs256(with("aud", nil)), "audience"},
		{"audience of numbers", rs256(with("aud", []int{1})), "claims"},
		{"no user", rs256(with("sub", nil)), "claims"},
		{"empty user", rs256(with("sub", "")), "claims"},
		{"user too long", rs256(with("sub", strings.Repeat("x", 1025))), "claims"},
		{"user with a control character", rs256(with("sub", "a\nb")), "claims"},
		{"role that is no text", rs256(with("role", map[string]any{"a": 1})), "claims"},
		{"no role", rs256(with("role", nil)), ""},
		{"payload is a list", rs256([]int{1}), "claims"},
		{"payload is null", rs256(nil), "issuer"},
	} {
		c, why := v.verify(test.token)
		if name(why) != test.want {
			t.Errorf("%s: rejected as %q, want %q", test.name, name(why), test.want)
		}
		if (c.user == "ann") != (test.want == "") {
			t.Errorf("%s: user %q", test.name, c.user)
		}
	}
}

// signEmbedded signs with a key that the token brings along, as RFC 7515 has it.
func signEmbedded(t *testing.T, payload any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: otherRSA()}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	return must(must(signer.Sign(must(json.Marshal(payload)))).CompactSerialize())
}

// A key that a token may only be signed with by one algorithm is good for no other.
func TestAlgorithmsAreRestricted(t *testing.T) {
	onlyPS256 := jwk("rsa", rsaKey().Public())
	onlyPS256.Algorithm = "PS256"
	for what, v := range map[string]*Verifier{
		"by the set":     verifier(t, VerifierOptions{JWKSFile: write(t, jwks(onlyPS256))}),
		"by the options": verifier(t, VerifierOptions{KeyFile: write(t, publicPEM(rsaKey().Public())), Algorithms: []string{"PS256", "ES256"}}),
	} {
		if _, why := v.verify(sign(t, jose.PS256, rsaKey(), "rsa", ann())); why != accepted {
			t.Errorf("%s: PS256 rejected as %s", what, name(why))
		}
		if _, why := v.verify(sign(t, jose.RS256, rsaKey(), "rsa", ann())); why != rejectedAlgorithm {
			t.Errorf("%s: RS256 is %q, want algorithm", what, name(why))
		}
	}
}

func TestClaimPaths(t *testing.T) {
	payload := map[string]any{
		"sub": "ann", "uid": 123, "float": 1.5, "https://example.com/role": "gold", "realm_access": map[string]any{"roles": []string{"admin", "user"}},
		"none": []string{}, "deep": map[string]any{"er": map[string]any{"x": "y"}}, "number": []int{7}, "null": nil,
	}
	for path, want := range map[string]string{
		"sub": "ann", "uid": "123", "https://example.com/role": "gold", "realm_access.roles": "admin", "deep.er.x": "y", "number": "7",
		"none": "", "absent": "", "absent.x": "", "realm_access.absent": "", "float": "bad", "deep": "bad", "sub.x": "bad",
	} {
		var all map[string]josejson.RawMessage
		if err := josejson.Unmarshal(must(json.Marshal(payload)), &all); err != nil {
			t.Fatal(err)
		}
		got, ok := textClaim(all, path)
		if !ok {
			got = "bad"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A token is of whom it says, whoever sends it; what it does not prove, a trusted peer may state.
func TestWhoTheTokenIsOf(t *testing.T) {
	v := verifier(t, VerifierOptions{KeyFile: write(t, publicPEM(edKey().Public())), RoleClaim: "role"})
	good := sign(t, jose.EdDSA, edKey(), "", map[string]any{"sub": "ann", "role": "premium"})
	bad := sign(t, jose.HS256, secret, "", ann())
	stated := []string{"X-User: bob", "X-Role: admin"}
	for _, test := range []struct {
		name       string
		trusted    bool
		headers    []string
		user, role string
		rejected   string
	}{
		{"from anybody", false, []string{"Authorization: Bearer " + good}, "ann", "premium", ""},
		{"bearer in other letters", false, []string{"Authorization: bEARER  " + good}, "ann", "premium", ""},
		{"beside headers of anybody", false, append(stated, "Authorization: Bearer "+good), "ann", "premium", ""},
		{"against a trusted peer", true, append(stated, "Authorization: Bearer "+good), "ann", "premium", ""},
		{"no token", true, stated, "bob", "admin", ""},
		{"another scheme", true, append(stated, "Authorization: Basic Ym9iOmJvYg=="), "bob", "admin", ""},
		{"token without a scheme", false, []string{"Authorization: " + good}, "", "", ""},
		{"bad token of anybody", false, append(stated, "Authorization: Bearer "+bad), "", "", "algorithm"},
		{"bad token by a trusted peer", true, append(stated, "Authorization: Bearer "+bad), "bob", "admin", "algorithm"},
		{"two tokens", false, []string{"Authorization: Bearer " + good, "Authorization: Bearer " + bad}, "", "", "malformed"},
		{"empty token", false, []string{"Authorization: Bearer "}, "", "", ""}, // net/http trims it to a bare word
	} {
		t.Run(test.name, func(t *testing.T) {
			o := DefaultOptions()
			o.JWT = v
			if test.trusted {
				o.TrustedProxies = proxies
			}
			r := resolver(t, o)
			url, answers := serve(t, r, nil)
			send(t, dial(t, url), "GET /", test.headers...)
			got := <-answers
			if got.err != nil || got.context.UserID != test.user || got.context.UserRole != test.role {
				t.Errorf("%v, %q, %q; want %q, %q", got.err, got.context.UserID, got.context.UserRole, test.user, test.role)
			}
			counts := r.Rejected()
			if len(counts) != len(Reasons()) {
				t.Errorf("%d reasons are counted, want %d", len(counts), len(Reasons()))
			}
			for _, why := range Reasons() {
				want := uint64(0)
				if why == test.rejected {
					want = 1
				}
				if counts[why] != want {
					t.Errorf("%d rejected as %s, want %d", counts[why], why, want)
				}
			}
		})
	}
}

func TestTokenInAHeaderOfItsOwn(t *testing.T) {
	v := verifier(t, VerifierOptions{KeyFile: write(t, publicPEM(edKey().Public())), Header: "X-Jwt"})
	token := sign(t, jose.EdDSA, edKey(), "", ann())
	for _, value := range []string{token, "Bearer " + token} {
		if got, there := v.token(value); !there || got != token {
			t.Errorf("%.20q: %v", value, there)
		}
	}
	if _, there := v.token(""); there {
		t.Error("an empty header is a token")
	}
}

// The cache does not keep a token alive, forgets in bounds, and keeps what is in use.
func TestCache(t *testing.T) {
	now := noon
	v := verifier(t, VerifierOptions{SecretFile: write(t, secret), Leeway: 10 * time.Second, Now: func() time.Time { return now }})
	token := sign(t, jose.HS256, secret, "", ann()) // for 600 s
	for _, step := range []struct {
		after time.Duration
		want  reason
	}{{0, accepted}, {599 * time.Second, accepted}, {610 * time.Second, accepted}, {611 * time.Second, rejectedExpired}} {
		now = noon.Add(step.after)
		if _, why := v.verify(token); why != step.want {
			t.Errorf("after %s: %q, want %q", step.after, name(why), name(step.want))
		}
	}

	var c cache
	var used [32]byte
	c.put(used, claims{user: "ann"})
	for i := range 5 * generation {
		c.put([32]byte{1, byte(i), byte(i >> 8)}, claims{})
		if _, ok := c.get(used); !ok {
			t.Fatalf("a token in use was forgotten after %d others", i)
		}
		if n := len(c.young) + len(c.old); n > 2*generation {
			t.Fatalf("%d tokens are kept", n)
		}
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	readable := write(t, secret)
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(ecKey()))})
	many := make([]jose.JSONWebKey, maxKeys+1)
	for i := range many {
		many[i] = jwk(fmt.Sprint(i), edKey().Public())
	}
	encryption := jwk("a", rsaKey().Public())
	encryption.Use = "enc"
	for name, test := range map[string]struct {
		o    VerifierOptions
		want string
	}{
		"no source":             {VerifierOptions{}, "0 sources"},
		"two sources":           {VerifierOptions{KeyFile: "a", JWKSURL: "https://a.example"}, "2 sources"},
		"no file":               {VerifierOptions{KeyFile: "/nonexistent"}, "no such file"},
		"directory":             {VerifierOptions{JWKSFile: t.TempDir()}, "want a file"},
		"secret for all to see": {VerifierOptions{SecretFile: readable}, "chmod 0600"},
		"short secret":          {VerifierOptions{SecretFile: write(t, append([]byte("\n \n"), secret[:31]...))}, "31 bytes"},
		"secret is a PEM key":   {VerifierOptions{SecretFile: write(t, publicPEM(rsaKey().Public()))}, "key in PEM"},
		"secret is a JWK set":   {VerifierOptions{SecretFile: write(t, jwks(jwk("a", edKey().Public())))}, "key in PEM or JSON"},
		"key is private":        {VerifierOptions{KeyFile: write(t, private)}, "PRIVATE KEY"},
		"key is no PEM":         {VerifierOptions{KeyFile: write(t, secret)}, "no PEM"},
		"small RSA":             {VerifierOptions{KeyFile: write(t, publicPEM(smallRSA().Public()))}, "1024 bits"},
		"small RSA in a set":    {VerifierOptions{JWKSFile: write(t, jwks(jwk("a", smallRSA().Public())))}, "no key"},
		"secret in a set":       {VerifierOptions{JWKSFile: write(t, jwks(jwk("a", secret)))}, "no key"},
		"key for encryption":    {VerifierOptions{JWKSFile: write(t, jwks(encryption))}, "no key"},
		"too many keys":         {VerifierOptions{JWKSFile: write(t, jwks(many...))}, "101 keys"},
		"no set":                {VerifierOptions{JWKSFile: write(t, []byte("<html>"))}, "no JWK set"},
		"huge":                  {VerifierOptions{JWKSFile: write(t, make([]byte, maxKeyText+1))}, "more than"},
		"unknown algorithm":     {VerifierOptions{SecretFile: write(t, secret), Algorithms: []string{"none"}}, "unknown algorithm"},
		"algorithm of no key":   {VerifierOptions{SecretFile: write(t, secret), Algorithms: []string{"RS256"}}, "no key"},
		"plain http":            {VerifierOptions{JWKSURL: "http://issuer.example/"}, "plain http"},
		"file URL":              {VerifierOptions{JWKSURL: "file://localhost/etc/passwd"}, "scheme"},
		"no URL":                {VerifierOptions{JWKSURL: "issuer.example"}, "URL"},
		"leeway":                {VerifierOptions{SecretFile: write(t, secret), Leeway: 30 * time.Hour}, "leeway"},
		"header":                {VerifierOptions{SecretFile: write(t, secret), Header: "a b"}, "header"},
	} {
		if v, err := NewVerifier(test.o); err == nil || v != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want an error with %q", name, err, test.want)
		}
	}
}
