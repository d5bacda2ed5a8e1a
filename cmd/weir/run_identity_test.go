package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
)

// TestReloadKeepsKeys: users stay known when a reload changes something about tokens, even if their issuer is away.
// Else the policies per user would hold for nobody until it is back.
func TestReloadKeepsKeys(t *testing.T) {
	const keys = `{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keys) }))
	lines, out := io.Pipe()
	log := slog.New(slog.NewTextHandler(out, nil))
	before, err := verifier{}.next(config.Server{JWT: &config.JWT{JWKSURL: issuer.URL}}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- before.Run(ctx) }()
	if line, err := bufio.NewReader(lines).ReadString('\n'); err != nil || !strings.Contains(line, "keys of tokens are in force") {
		t.Fatalf("logged %q (%v)", line, err)
	}
	lines.Close() // what is logged from now on goes nowhere
	cancel()
	<-done
	issuer.Close()
	after, err := before.next(config.Server{JWT: &config.JWT{JWKSURL: issuer.URL, Leeway: time.Minute}}, log)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := after.Keys(); after.Verifier == before.Verifier || n != 1 {
		t.Errorf("%d keys after the reload (%v)", n, err)
	}
}
