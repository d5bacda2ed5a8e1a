package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// logged is a log that a test waits on.
type logged struct {
	slog.Handler
	lines chan string
}

func (l logged) Enabled(context.Context, slog.Level) bool { return true }

func (l logged) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.lines <- line
	return nil
}

// run runs a verifier until the test ends. What it logs comes out of the channel.
func run(t *testing.T, o VerifierOptions) (*Verifier, <-chan string) {
	t.Helper()
	lines := make(chan string, 100)
	o.Log = slog.New(logged{slog.DiscardHandler, lines})
	v := verifier(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return v, lines
}

func await(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	select {
	case line := <-lines:
		if !strings.Contains(line, want) {
			t.Fatalf("logged %q, want %q", line, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing is logged, want %q", want)
	}
}

// issuer publishes keys, by an answer that a test can change.
type issuer struct {
	*httptest.Server
	answer  atomic.Pointer[http.HandlerFunc]
	fetches atomic.Int64
}

func newIssuer(t *testing.T, listener net.Listener, answer http.HandlerFunc) *issuer {
	t.Helper()
	i := &issuer{}
	i.set(answer)
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		i.fetches.Add(1)
		(*i.answer.Load())(w, req)
	}))
	if listener != nil {
		i.Listener.Close()
		i.Listener = listener
	}
	i.Start()
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) set(answer http.HandlerFunc) { i.answer.Store(&answer) }

func text(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }
}

func client(t *testing.T) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

type signer struct {
	id  string
	key ed25519.PrivateKey
}

func newSigner(id string) signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return signer{id, must(key, err)}
}

func (s signer) set() []byte { return jwks(jwk(s.id, s.key.Public())) }

func (s signer) token(t *testing.T, user string) string {
	return sign(t, jose.EdDSA, s.key, s.id, map[string]any{"sub": user})
}

const (
	inForce  = "are in force"
	notHad   = "can't be had"
	hadAgain = "can be had again"
)

// A token of a key that is not known has the keys fetched, and those that are gone vouch for nothing, not
// even for tokens that verified before.
func TestRotation(t *testing.T) {
	a, b := newSigner("a"), newSigner("b")
	i := newIssuer(t, nil, text(a.set()))
	v, lines := run(t, VerifierOptions{JWKSURL: i.URL, Refresh: time.Hour, MinRefresh: time.Millisecond, HTTPClient: client(t)})
	await(t, lines, inForce)
	if _, why := v.verify(a.token(t, "ann")); why != accepted {
		t.Fatalf("rejected as %s", name(why))
	}
	i.set(text(b.set()))
	if _, why := v.verify(b.token(t, "ann")); why != rejectedUnknownKey {
		t.Fatalf("rejected as %q, want unknown_key", name(why))
	}
	await(t, lines, inForce)
	if _, why := v.verify(b.token(t, "ann")); why != accepted {
		t.Errorf("rejected as %s", name(why))
	}
	if _, why := v.verify(a.token(t, "ann")); why != rejectedUnknownKey {
		t.Errorf("a token of the old key is %q, want unknown_key", name(why))
	}
}

// Another verifier of the same URL need not wait for the issuer, which may be away. Of the other's judgement it
// takes over nothing, and of another URL's keys none.
func TestInherit(t *testing.T) {
	a := newSigner("a")
	i := newIssuer(t, nil, text(a.set()))
	v, lines := run(t, VerifierOptions{JWKSURL: i.URL, Refresh: time.Hour, HTTPClient: client(t)})
	await(t, lines, inForce)
	token := a.token(t, "ann")
	if _, why := v.verify(token); why != accepted {
		t.Fatalf("rejected as %s", name(why))
	}
	i.set(http.NotFound)
	for _, c := range []struct {
		next VerifierOptions
		want reason
	}{
		{VerifierOptions{JWKSURL: i.URL, Leeway: time.Minute}, accepted},
		{VerifierOptions{JWKSURL: i.URL, Audience: "weir"}, rejectedAudience},
		{VerifierOptions{JWKSURL: i.URL, Algorithms: []string{"ES256"}}, rejectedNoKeys},
		{VerifierOptions{JWKSURL: i.URL + "/other"}, rejectedNoKeys},
	} {
		c.next.HTTPClient = client(t)
		next := verifier(t, c.next)
		next.Inherit(v)
		if _, why := next.verify(token); why != c.want {
			t.Errorf("%+v: %v, want %v", c.next, why, c.want)
		}
	}
	i.set(text(a.set()))
	next := verifier(t, VerifierOptions{JWKSURL: i.URL, HTTPClient: client(t)})
	next.Inherit(v)
	inherited := next.keys.Load()
	if err := next.refresh(t.Context()); err != nil || next.keys.Load() == inherited {
		t.Errorf("its own keys do not take the place of those (%v)", err)
	}
}

// Nobody makes weir fetch more often than it wants to.
func TestUnknownKeysAreFetchedSeldom(t *testing.T) {
	a := newSigner("a")
	i := newIssuer(t, nil, text(a.set()))
	v, lines := run(t, VerifierOptions{JWKSURL: i.URL, Refresh: time.Hour, MinRefresh: 30 * time.Minute, HTTPClient: client(t)})
	await(t, lines, inForce)
	for n := range 1000 {
		if _, why := v.verify(newSigner(fmt.Sprint(n)).token(t, "eve")); why != rejectedUnknownKey {
			t.Fatalf("rejected as %q", name(why))
		}
	}
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestIssuerIsAwayAtFirst(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	a := newSigner("a")
	v, lines := run(t, VerifierOptions{JWKSURL: "http://" + addr + "/?password=s3cret", Refresh: time.Hour, MinRefresh: time.Millisecond, HTTPClient: client(t)})
	select {
	case line := <-lines:
		if !strings.Contains(line, notHad) || strings.Contains(line, "s3cret") {
			t.Errorf("logged %q", line)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is logged")
	}
	if _, why := v.verify(a.token(t, "ann")); why != rejectedNoKeys {
		t.Errorf("rejected as %q, want no_keys", name(why))
	}
	if n, err := v.Keys(); n != 0 || err == nil {
		t.Errorf("%d keys, error %v", n, err)
	}
	listener, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	newIssuer(t, listener, text(a.set()))
	await(t, lines, inForce)
	if _, why := v.verify(a.token(t, "ann")); why != accepted {
		t.Errorf("rejected as %s", name(why))
	}
	if n, err := v.Keys(); n != 1 || err != nil {
		t.Errorf("%d keys, error %v", n, err)
	}
}

// Whatever the issuer answers, the last good set stays, and weir says so once.
func TestIssuerFails(t *testing.T) {
	a := newSigner("a")
	for what, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"status":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); w.Write(a.set()) }, "503"},
		"garbage":        {text([]byte("<html>")), "no JWK set"},
		"half a set":     {text(a.set()[:40]), "no JWK set"},
		"deep":           {text(bytes.Repeat([]byte("["), 500_000)), "no JWK set"},
		"no keys":        {text([]byte(`{"keys":[]}`)), "no key"},
		"no usable keys": {text([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"x"},1,null,{}]}`)), "no key"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			for block := make([]byte, 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return // weir hung up
				}
			}
		}, "more than"},
		"slow":            {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, "no answer"},
		"redirect":        {func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "http://issuer.example/", 302) }, "plain http"},
		"redirect loop":   {func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/", 302) }, "too often"},
		"redirect to ftp": {func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "ftp://127.0.0.1/", 302) }, "scheme"},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t, nil, text(a.set()))
			c := client(t)
			c.Timeout = 5 * time.Second
			if what == "slow" {
				c.Timeout = 50 * time.Millisecond
			}
			v, lines := run(t, VerifierOptions{JWKSURL: i.URL, Refresh: 10 * time.Millisecond, MinRefresh: time.Millisecond, HTTPClient: c})
			await(t, lines, inForce)
			i.set(test.answer)
			await(t, lines, notHad)
			if n, err := v.Keys(); n != 1 || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d keys, error %v; want 1 and one with %q", n, err, test.want)
			}
			if _, why := v.verify(a.token(t, "ann")); why != accepted {
				t.Errorf("rejected as %s", name(why))
			}
			i.set(text(a.set()))
			await(t, lines, hadAgain)
		})
	}
}

// Files are read anew when they change, and a bad one changes nothing.
func TestKeyFileChanges(t *testing.T) {
	a, b := newSigner("a"), newSigner("b")
	path := filepath.Join(t.TempDir(), "jwks.json")
	replace := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", text, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	replace(a.set())
	v, lines := run(t, VerifierOptions{JWKSFile: path, Refresh: time.Millisecond})
	await(t, lines, inForce)
	replace([]byte("{"))
	await(t, lines, notHad)
	if _, why := v.verify(a.token(t, "ann")); why != accepted {
		t.Errorf("rejected as %s", name(why))
	}
	replace(b.set())
	await(t, lines, inForce)
	if _, why := v.verify(b.token(t, "ann")); why != accepted {
		t.Errorf("rejected as %s", name(why))
	}
	if _, why := v.verify(a.token(t, "ann")); why != rejectedUnknownKey {
		t.Errorf("a token of the old key is %q, want unknown_key", name(why))
	}
}
