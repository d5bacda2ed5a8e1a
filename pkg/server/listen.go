package server

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Listen opens a TCP listener on address, host:port. Which field of the file that is from is for the caller to
// say.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, explain(err, address)
	}
	return l, nil
}

// explain adds the mend to why an address can't be listened on.
func explain(err error, address string) error {
	_, port, splitErr := net.SplitHostPort(address)
	switch {
	case errors.Is(err, unix.EADDRINUSE) && splitErr == nil:
		return fmt.Errorf("%w (see who has it: ss -ltnp 'sport = :%s'; or choose another address in the file)", err, port)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w (no interface has this address: ip address lists them)", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (a port below 1024 needs root, or CAP_NET_BIND_SERVICE)", err)
	}
	return err
}
