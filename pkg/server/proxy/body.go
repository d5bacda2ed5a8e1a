package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// errStalled says that a client stopped sending.
var errStalled = errors.New("the body of the request did not come in time")

// watchBody gives the body of a request of HTTP/1 up when nothing of it comes any more: the whole may take
// as long as it will, so that the server sets no limit. In HTTP/2 a request may be one half of a
// conversation, in which nobody speaks for hours.
func watchBody(w http.ResponseWriter, r *http.Request, stall time.Duration) io.ReadCloser {
	if r.ProtoMajor != 1 || r.Body == http.NoBody {
		return r.Body
	}
	return &watchedBody{body: r.Body, conn: http.NewResponseController(w), stall: stall}
}

type watchedBody struct {
	body  io.ReadCloser
	conn  *http.ResponseController
	stall time.Duration

	// mu keeps a transport that reads on after the request from moving the deadline of the next one. Reads
	// come one after the other, so that nobody waits for it.
	mu     sync.Mutex
	closed bool
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	b.setDeadline(time.Now().Add(b.stall))
	n, err := b.body.Read(p)
	if err != nil {
		b.setDeadline(time.Time{}) // else the server would take a slow answer for a lost client
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errStalled
	}
	return n, err
}

// setDeadline sets a timer of the Go runtime: no system call.
func (b *watchedBody) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		_ = b.conn.SetReadDeadline(t) // what can't have a deadline has none
	}
}

// Close implements [io.Closer]. It leaves a deadline as it is: what is left of the body may be read yet.
func (b *watchedBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return b.body.Close()
}
