// Package serve runs HTTP servers.
package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// shutdownTimeout is how long requests that are being answered keep a server from ending.
const shutdownTimeout = 5 * time.Second

// Silent is a log for [http.Server.ErrorLog]. What net/http logs has addresses of clients in it. The two
// things worth knowing are logged elsewhere: panics by middleware.Recovered, failures to accept by [Run].
func Silent() *log.Logger { return log.New(io.Discard, "", 0) }

// Run serves until ctx ends, and then lets requests that are being answered finish, for a few seconds. It
// closes the listener, and returns nil unless serving failed.
func Run(ctx context.Context, s *http.Server, l net.Listener, log *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(loggedListener{l, log}) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	err := shutdown(ctx, s)
	<-failed // http.ErrServerClosed, as was asked for
	return err
}

func shutdown(ctx context.Context, s *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// A client that is slow, or hangs, or a stream, is no failure of ours.
		return s.Close()
	}
	return err
}

// loggedListener logs why no connection could be accepted, which net/http tells only a log that names
// clients too: see [Silent].
type loggedListener struct {
	net.Listener
	log *slog.Logger
}

func (l loggedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Error("a connection could not be accepted", "error", err)
	}
	return conn, err
}
