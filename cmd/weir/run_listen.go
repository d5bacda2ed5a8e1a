package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/server"
)

// listeners are where the daemon is asked; nil are those that the file does not want.
type listeners struct {
	socket, http, grpc, proxy net.Listener
}

// listen opens all of them, or none. What it opens a server closes, or close.
func listen(ctx context.Context, runDir string, c config.Server) (_ listeners, err error) {
	var l listeners
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.socket, err = server.ListenSocket(ctx, socketPath(runDir)); err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w (name a directory that this user may write to with --run-dir)", err)
		}
		return l, err
	}
	files, err := maxFiles()
	if err != nil {
		return l, err
	}
	for _, want := range []struct {
		field, address string
		to             *net.Listener
		share          int // of the file descriptors; what is left is for the socket, files and the kernel
	}{
		{"server.http", c.HTTP, &l.http, 4},
		{"server.grpc", c.GRPC, &l.grpc, 4},
		{"server.proxy.listen", c.Proxy.Listen, &l.proxy, 8},
	} {
		if want.address == "" {
			continue
		}
		one, err := server.Listen(ctx, want.address)
		if err != nil {
			return l, fmt.Errorf("%s: %w", want.field, err)
		}
		*want.to = server.Bounded(one, max(1, files/want.share))
	}
	return l, nil
}

// upstreamShare is the share of the file descriptors that connections to server.proxy.upstream may have.
const upstreamShare = 8

// maxFiles is how many file descriptors the process may have. Go has raised it as far as it may be.
func maxFiles() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("how many files may be open: %w", err)
	}
	return int(min(limit.Cur, 1<<20)), nil
}

// close closes what no server has closed.
func (l listeners) close() error {
	var errs []error
	for _, one := range []net.Listener{l.socket, l.http, l.grpc, l.proxy} {
		if one == nil {
			continue
		}
		if err := one.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// addressOf is where a listener is; empty if there is none.
func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}
