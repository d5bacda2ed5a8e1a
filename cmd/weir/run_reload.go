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
