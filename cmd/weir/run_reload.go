package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/internal/yamlfile"
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
	case d.withFurther(hash) != d.content:
		d.log.Info("the file has changed", "config", d.file)
		d.tryContent(data, hash)
	}
}

// tryContent loads what is in the file, and remembers what it was, so that it is not tried twice.
func (d *daemon) tryContent(data []byte, hash contentHash) {
	before := *d.further.Load()
	d.content = d.withFurther(hash) // before the load: what changes meanwhile is found at the next look
	d.reloaded(d.load(data))
	if !slices.Equal(before, *d.further.Load()) {
		d.content = d.withFurther(hash)
		select {
		case d.moved <- struct{}{}:
		default: // it has not heard of the change before, and will see this one too
		}
	}
}

// withFurther is the hash of the file's content and of that of the files that it names and whose changes are
// worth a reload. One that can't be read has a content of its own.
func (d *daemon) withFurther(content contentHash) contentHash {
	further := *d.further.Load()
	if len(further) == 0 {
		return content
	}
	h := sha256.New()
	h.Write(content[:])
	for _, path := range rulesFiles(further) {
		one, err := os.Open(path)
		if err != nil {
			fmt.Fprintf(h, "\x00%s\x00%v", path, err)
			continue
		}
		fmt.Fprintf(h, "\x00%s\x00", path)
		_, _ = io.Copy(h, io.LimitReader(one, config.MaxFileSize+1)) // more is refused
		one.Close()
	}
	return contentHash(h.Sum(nil))
}

// rulesFiles are the files of server.rls_config, and those of its directories.
func rulesFiles(paths []string) []string {
	var all []string
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		if err != nil { // no directory
			all = append(all, path)
			continue
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".yaml" || ext == ".yml" {
				all = append(all, filepath.Join(path, e.Name()))
			}
		}
	}
	return all
}

// reload makes the kernel like the file as it is now, changed or not.
func (d *daemon) reload() {
	data, hash, err := readContent(d.file)
	if err != nil {
		d.reloaded(err)
		return
	}
	d.tryContent(data, hash)
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

// faults takes apart the errors of a file, ours or one of the rate limit service, so that each gets a line of the log.
func faults(err error) []error {
	if all, ok := errors.AsType[yamlfile.Errors](err); ok {
		return all.Unwrap()
	}
	return []error{err}
}
