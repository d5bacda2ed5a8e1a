package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

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
	for _, want := range []struct {
		field, address string
		to             *net.Listener
	}{
		{"server.http", c.HTTP, &l.http},
		{"server.grpc", c.GRPC, &l.grpc},
		{"server.proxy.listen", c.Proxy.Listen, &l.proxy},
	} {
		if want.address == "" {
			continue
		}
		if *want.to, err = server.Listen(ctx, want.address); err != nil {
			return l, fmt.Errorf("%s: %w", want.field, err)
		}
	}
	return l, nil
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
