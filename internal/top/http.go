package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"golang.org/x/sys/unix"
)

// Path is where the daemon answers.
const Path = "/v1/top"

// ErrNoDaemon says that no daemon which knows Path listens on the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// maxAnswer bounds what is believed of an answer, in bytes: far above 2 lists of 1024 sources.
const maxAnswer = 16 << 20

// Handler answers GET with a report, by the query that [ParseQuery] reads. A report names sources: it is for
// the socket and for administrators alone.
func Handler(t *Top) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := ParseQuery(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		report, err := t.Report(t.options.Now(), q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(report) // a client that went away needs no answer
	})
}

// Client asks the daemon on a unix socket.
type Client struct{ http http.Client }

// NewClient makes a client; nothing is sent yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Report asks for a report. It fails with [ErrNoDaemon] if there is none to ask.
func (c *Client) Report(ctx context.Context, q Query) (*Report, error) {
	url := "http://weir" + Path + "?" + q.Values().Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	case err != nil:
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	case answer.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w: the one that runs does not know %s", ErrNoDaemon, Path)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the daemon answers %s: %s", answer.Status, strings.TrimSpace(string(body)))
	}
	r := &Report{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w (is it of another version?)", err)
	}
	return r, nil
}

// Close closes the connections that are kept.
func (c *Client) Close() { c.http.CloseIdleConnections() }
