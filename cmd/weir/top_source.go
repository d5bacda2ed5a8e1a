package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/loader"
)

// topSource is whom weir top asks.
type topSource interface {
	// Run collects until ctx ends.
	Run(ctx context.Context) error
	// Report tells what was collected.
	Report(ctx context.Context, q top.Query) (*top.Report, error)
	Close() error
}

var (
	_ topSource = (*daemonTop)(nil)
	_ topSource = (*kernelTop)(nil)
)

// openTop asks the daemon if one answers, else the kernel.
func openTop(ctx context.Context, e *env) (topSource, error) {
	daemon := &daemonTop{client: top.NewClient(filepath.Join(e.runDir, "weir.sock"))}
	_, err := daemon.Report(ctx, top.Query{N: 1})
	switch {
	case err == nil:
		return daemon, nil
	case errors.Is(err, top.ErrNoDaemon):
		return openKernelTop(e)
	case errors.Is(err, unix.EACCES):
		err = fmt.Errorf("%w (needs root, or the group of the socket)", err)
	}
	return nil, err
}

// daemonTop is the daemon, which collects by itself while it is asked.
type daemonTop struct{ client *top.Client }

func (d *daemonTop) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (d *daemonTop) Report(ctx context.Context, q top.Query) (*top.Report, error) {
	return d.client.Report(ctx, q)
}

func (d *daemonTop) Close() error {
	d.client.Close()
	return nil
}

// kernelTop collects in this process, from what is pinned.
type kernelTop struct {
	*top.Top
	dir    *loader.StateDir
	events *loader.Events
}

func openKernelTop(e *env) (*kernelTop, error) {
	dir, err := e.open()
	if err != nil {
		return nil, err
	}
	events, err := dir.OpenEvents(e.runDir)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &kernelTop{
		Top: top.New(top.Options{Listener: events, Attachments: dir.Attachments, Now: loader.Monotonic}),
		dir: dir, events: events,
	}, nil
}

func (k *kernelTop) Report(_ context.Context, q top.Query) (*top.Report, error) {
	return k.Top.Report(loader.Monotonic(), q)
}

func (k *kernelTop) Close() error { return errors.Join(k.events.Close(), k.dir.Close()) }
