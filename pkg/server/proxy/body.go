package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// hasOwnDeadline tells of a request whose body is given up when nothing of it comes any more: the whole may
// take as long as it will, so that the server sets no limit. In HTTP/2 a request may be one half of a
// conversation, in which nobody speaks for hours.
func hasOwnDeadline(r *http.Request) bool { return r.ProtoMajor == 1 && r.Body != http.NoBody }

// boundBody sets the first deadline of a body, for whoever reads it: net/http does so too, before it
// sends an answer, and would wait for ever for a body that a denied request only announced.
func boundBody(w http.ResponseWriter, r *http.Request, stall time.Duration) {
	if hasOwnDeadline(r) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(stall)) // what can't have one has none
	}
}

// watchBody moves the deadline with everything that comes.
func watchBody(w http.ResponseWriter, r *http.Request, stall time.Duration) *watchedBody {
	if !hasOwnDeadline(r) {
		return nil
	}
	b := &watchedBody{body: r.Body, conn: http.NewResponseController(w), stall: stall}
	r.Body = b
	return b
}

type watchedBody struct {
	body  io.ReadCloser
	conn  *http.ResponseController
	stall time.Duration

	// mu keeps a transport that reads on after the request from moving the deadline of the next one. Reads
	// come one after the other, so that nobody waits for it.
	mu       sync.Mutex
	closed   bool
	deadline time.Time // zero: there is none
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	b.setDeadline(time.Now().Add(b.stall))
	n, err := b.body.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		b.setDeadline(time.Time{}) // else the server would take a slow answer for a lost client
	}
	return n, err // a deadline that is over stays, for whoever else would wait for the rest
}

// stalled tells whether the client has sent nothing for too long. The error of Read can't be relied on for
// that: net/http ends the context of the request before Read returns, and that error may overtake it.
func (b *watchedBody) stalled() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.deadline.IsZero() && time.Now().After(b.deadline)
}

// setDeadline sets a timer of the Go runtime: no system call.
func (b *watchedBody) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.deadline = t
		_ = b.conn.SetReadDeadline(t)
	}
}

// Close implements [io.Closer]. What it closes may read some of the rest, for as long as the deadline lets it.
func (b *watchedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	err := b.body.Close()
	if err == nil {
		_ = b.conn.SetReadDeadline(time.Time{}) // as in Read
	}
	return err
}
