package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestSweep holds connections against the clock: whoever does not get on is cut off, and nobody else.
func TestSweep(t *testing.T) {
	t.Parallel()
	const age, longer = 100 * time.Millisecond, 2 * time.Second
	hold := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	body := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	answer := func(http.ResponseWriter, *http.Request) {}
	for _, c := range []struct {
		name    string
		maxAge  maxAge
		handler http.HandlerFunc
		sent    string
		answers int // that are read before the connection is cut off
	}{
		{"says nothing", maxAge{age, longer, longer}, answer, "", 0},
		{"half a head", maxAge{age, longer, longer}, answer, "GET / HTTP/1.1\r\nHost:", 0},
		{"half a body", maxAge{longer, age, longer}, body, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 0},
		{"a handler that hangs", maxAge{longer, age, longer}, hold, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
		{"idle", maxAge{longer, longer, age}, answer, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"half a second head", maxAge{longer, longer, age}, answer, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := startSwept(t, c.maxAge, c.handler)
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.sent); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			_ = conn.SetReadDeadline(begun.Add(longer))
			answers := bufio.NewReader(conn)
			for range c.answers {
				if _, err := http.ReadResponse(answers, nil); err != nil {
					t.Fatal(err)
				}
			}
			if rest, err := io.ReadAll(answers); err != nil && isTimeout(err) || len(rest) > 0 {
				t.Errorf("%q %v: want it closed", rest, err)
			}
			if took := time.Since(begun); took < age/2 || took >= longer {
				t.Errorf("closed after %v, want %v", took, age)
			}
		})
	}
}

// TestSweepLeavesOthers: who asks again and again stays, however long.
func TestSweepLeavesOthers(t *testing.T) {
	t.Parallel()
	const age = 250 * time.Millisecond
	address := startSwept(t, maxAge{age, age, age}, func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers, pace := bufio.NewReader(conn), time.NewTicker(age/5)
	defer pace.Stop()
	for i := range 15 { // three times as long as each state may last
		<-pace.C
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := http.ReadResponse(answers, nil); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
}

func startSwept(t *testing.T, m maxAge, handler http.HandlerFunc) (address string) {
	t.Helper()
	inner, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newSweep(inner, m)
	s := newHTTPServer(handler)
	s.ConnState = l.changed
	ctx, cancel := context.WithCancel(context.Background())
	go l.run(ctx, 10*time.Millisecond)
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.conns) > 0 {
			t.Errorf("%d connections are still watched", len(l.conns))
		}
	})
	return inner.Addr().String()
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
