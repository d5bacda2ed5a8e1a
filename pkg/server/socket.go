package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketMode lets root in, and the group that an administrator may give the socket to.
	socketMode = 0o660
	// maxSocketPath is what fits into struct sockaddr_un, less the byte that ends it.
	maxSocketPath = 107
	// dialTimeout is how long a daemon may take to accept, before its socket counts as answered.
	dialTimeout = time.Second
)

// ErrSocketInUse says that another process answers on a socket.
var ErrSocketInUse = errors.New("another process answers there")

// ListenSocket opens the unix socket at path for whoever may write to it: its owner and its group. The
// directory is made if need be. A socket that a dead daemon left is replaced, one that is answered is
// not: see [ErrSocketInUse].
func ListenSocket(ctx context.Context, path string) (net.Listener, error) {
	l, err := listenSocket(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path has %d bytes, and a socket's at most %d (choose a shorter --run-dir)", len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	// The mode is set before the path exists: nobody else can connect in between. The umask may take
	// from it, so it is set again.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }), err)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// clearStale removes a socket on which nobody answers, and nothing else.
func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("something else is there: %s (remove it, or choose another --run-dir)", info.Mode())
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%w (stop that weir run, or choose another --run-dir)", ErrSocketInUse), conn.Close())
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, unix.EAGAIN), errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		// Its queue is full: somebody is there, and busy.
		return fmt.Errorf("%w (stop that weir run, or choose another --run-dir)", ErrSocketInUse)
	}
	return fmt.Errorf("ask whether somebody answers: %w", err)
}
