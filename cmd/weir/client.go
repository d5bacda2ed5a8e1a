package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/server"
)

const (
	socketName = "weir.sock"
	// clientTimeout bounds a request: a change loads a program for every interface.
	clientTimeout = time.Minute
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 20
)

// socketPath is where the daemon of a runtime directory listens.
func socketPath(runDir string) string { return filepath.Join(runDir, socketName) }

// client asks the daemon over its socket.
type client struct {
	http     *http.Client
	stateDir string
	socket   string
}

// daemon finds out whether a daemon answers on the socket; nil if not.
func (e *env) daemon(ctx context.Context) (*client, error) {
	path := socketPath(e.runDir)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	switch {
	case err == nil:
		conn.Close()
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		return nil, nil
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("ask the daemon: %w (needs root, or the group of the socket)", err)
	default:
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	return &client{
		http:     &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: clientTimeout},
		stateDir: e.stateDir, socket: path,
	}, nil
}

// errNoDaemon says that only a daemon can do what was asked for.
var errNoDaemon = errors.New("no weir run answers")

// needDaemon is daemon for what only a daemon can do.
func (e *env) needDaemon(ctx context.Context) (*client, error) {
	c, err := e.daemon(ctx)
	if err == nil && c == nil {
		err = fmt.Errorf("%w on %s (start it, or name its runtime directory with --run-dir)", errNoDaemon, socketPath(e.runDir))
	}
	return c, err
}

// answer is what the daemon answered.
type answer struct {
	status      int
	text        string // of the status
	contentType string
	body        []byte
}

// send makes a request with body as JSON, unless that is nil. Whatever is answered is no error.
func (c *client) send(ctx context.Context, method, path string, body any) (answer, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return answer{}, fmt.Errorf("ask the daemon: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://weir"+path, bytes.NewReader(data))
	if err != nil {
		return answer{}, fmt.Errorf("ask the daemon: %w", err)
	}
	request.Header.Set(server.StateDirHeader, c.stateDir)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return answer{}, fmt.Errorf("ask the daemon on %s: %w", c.socket, err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, text: response.Status, contentType: response.Header.Get("Content-Type")}
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return answer{}, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return a, nil
}

// problem is what an answer has against the request; nil if nothing.
func (a answer) problem(c *client, method, path string) error {
	switch {
	case a.status < http.StatusBadRequest:
		return nil
	case a.contentType == "application/problem+json":
		problem := &server.Problem{}
		if err := json.Unmarshal(a.body, problem); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		return problem
	case a.status == http.StatusServiceUnavailable:
		return nil // of /readyz
	}
	return fmt.Errorf("the daemon on %s answers %s to %s %s (is it of this version? see its log)", c.socket, a.text, method, path)
}

// ask makes a request with body as JSON, unless that is nil, and reads the answer into to, unless that
// is. An error of the daemon is a [server.Problem].
func (c *client) ask(ctx context.Context, method, path string, body, to any) error {
	a, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := a.problem(c, method, path); err != nil {
		return err
	}
	return a.read(to)
}

// read reads the JSON of an answer, unless to is nil.
func (a answer) read(to any) error {
	if to == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, to); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}
