package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/server"
)

// contentHash tells one content of a file from another.
type contentHash [sha256.Size]byte

// readContent reads the file, as far as [config.Parse] looks at it.
func readContent(path string) ([]byte, contentHash, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, contentHash{}, fmt.Errorf("read configuration: %w (name the file with -c)", err)
	}
	if err != nil {
		return nil, contentHash{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	// One byte more than is allowed, for Parse to see that it is too much.
	data, err := io.ReadAll(io.LimitReader(f, config.MaxFileSize+1))
	if err != nil {
		return nil, contentHash{}, fmt.Errorf("read configuration: %w", err)
	}
	return data, sha256.Sum256(data), nil
}

// reloadCount counts what became of reloads.
type reloadCount struct{ done, failed atomic.Uint64 }

// Reloads is what metrics show.
func (d *daemon) Reloads() metrics.Reloads {
	return metrics.Reloads{
		Done: d.reloads.done.Load(), Failed: d.reloads.failed.Load(), LastFailed: d.Config().Failed != nil,
	}
}

// look reloads the file if there is something else in it than when it was tried last. A file that is
// not there is no occasion: somebody is about to put a new one in its place.
func (d *daemon) look() {
	data, hash, err := readContent(d.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.log.Debug("the file is not there; what was in force still is", "config", d.file)
	case err != nil:
		d.log.Warn("the file can't be looked at; what was in force still is", "error", err)
	case hash != d.content:
		d.log.Info("the file has changed", "config", d.file)
		d.content = hash
		d.reloaded(d.load(data))
	}
}

// reload makes the kernel like the file as it is now, changed or not.
func (d *daemon) reload() {
	data, hash, err := readContent(d.file)
	if err == nil {
		d.content = hash
		err = d.load(data)
	}
	d.reloaded(err)
}

// reloaded tells everybody what became of a reload.
func (d *daemon) reloaded(err error) {
	if err == nil {
		d.origin = server.Config{}
		d.reloads.done.Add(1)
		return
	}
	failed := &server.FailedReload{At: time.Now()}
	for _, err := range faults(err) {
		d.log.Error("the file is not reloaded; what was in force still is", "error", err)
		failed.Errors = append(failed.Errors, err.Error())
	}
	d.origin.Failed = failed
	d.reloads.failed.Add(1)
}

// faults takes apart the errors of a file, so that each gets a line of the log.
func faults(err error) []error {
	if all, ok := errors.AsType[config.Errors](err); ok {
		return all.Unwrap()
	}
	return []error{err}
}

// load puts a file's content in force. After an error everything is as it was.
func (d *daemon) load(data []byte) error {
	next, err := config.Parse(d.file, data)
	if err != nil {
		return err
	}
	if next.Table.Entries != d.config.Table.Entries {
		return fmt.Errorf("%s: table.entries has changed from %d to %d, and a table can't change its size (stop weir run, run: weir detach --all, start it again; buckets start full then)",
			d.file, d.config.Table.Entries, next.Table.Entries)
	}
	token, err := readToken(next)
	if err != nil {
		return err
	}
	if err := d.change(next); err != nil {
		return err
	}
	d.token.Store(&token)
	if err := d.reconciler.Prune(); err != nil {
		d.log.Error("reloaded in part: can't detach what the file does not list any more", "error", err)
		return nil
	}
	d.log.Info("reloaded", "config", d.file, "interfaces", len(d.reconciler.want.interfaces), "policies", len(d.reconciler.want.kernelPolicies()))
	return nil
}

// change puts another configuration in force, on all interfaces or on none.
func (d *daemon) change(next *config.Config) error {
	want, err := d.plan(next)
	if err != nil {
		return err
	}
	if err := d.reconciler.Change(want, time.Now()); err != nil {
		return err
	}
	if next.Server.HTTP != d.config.Server.HTTP {
		d.log.Warn("server.http has changed, which needs a restart of weir run",
			"listening", d.config.Server.HTTP, "file", next.Server.HTTP)
		next.Server.HTTP = d.config.Server.HTTP
	}
	d.config = next
	return nil
}

// readToken reads the admin token that a configuration names, if it does.
func readToken(c *config.Config) (server.Token, error) {
	if c.Server.AdminTokenFile == "" {
		return server.Token{}, nil
	}
	return server.ReadToken(c.Server.AdminTokenFile)
}
