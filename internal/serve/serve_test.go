package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// spent is a listener that cannot accept.
type spent struct{ net.Listener }

var errSpent = errors.New("too many open files")

func (spent) Accept() (net.Conn, error) { return nil, errSpent }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestFailureToAccept(t *testing.T) {
	t.Parallel()
	var log testutil.Log
	err := Run(t.Context(), &http.Server{ErrorLog: Silent()}, spent{listen(t)}, slog.New(slog.NewTextHandler(&log, nil)))
	if !errors.Is(err, errSpent) || !strings.Contains(log.String(), errSpent.Error()) {
		t.Errorf("%v; log %q", err, log.String())
	}
}

// A request that is being answered when ctx ends is answered, and nothing is logged of the end.
func TestEndsAfterRequests(t *testing.T) {
	t.Parallel()
	var log testutil.Log
	l := listen(t)
	ctx, end := context.WithCancel(t.Context())
	s := &http.Server{ErrorLog: Silent(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		end()
		<-ctx.Done()
		_, _ = io.WriteString(w, "done")
	})}
	ran := make(chan error, 1)
	go func() { ran <- Run(ctx, s, l, slog.New(slog.NewTextHandler(&log, nil))) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "done" {
		t.Errorf("%q %v", text, err)
	}
	if err := <-ran; err != nil || log.String() != "" {
		t.Errorf("%v; log %q", err, log.String())
	}
}
