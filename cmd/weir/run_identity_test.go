package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
)

// TestReloadKeepsKeys: users stay known when a reload changes something about tokens, even if their issuer is away.
// Else the policies per user would hold for nobody until it is back.
func TestReloadKeepsKeys(t *testing.T) {
	i := newIssuer(t, "first")
	log := slog.New(slog.DiscardHandler)
	before, err := verifier{}.next(config.Server{JWT: &config.JWT{JWKSURL: i.URL}}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- before.Run(ctx) }()
	for n := 0; n == 0; n, _ = before.Keys() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	i.Close()
	after, err := before.next(config.Server{JWT: &config.JWT{JWKSURL: i.URL, Leeway: time.Minute}}, log)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := after.Keys(); after.Verifier == before.Verifier || n != 1 {
		t.Errorf("%d keys after the reload (%v)", n, err)
	}
}
