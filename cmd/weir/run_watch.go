package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long a directory has to be quiet before the file is read: whoever saves one
	// may take several steps.
	settleTime = 200 * time.Millisecond
	// maxSettleTime is how long a directory that is never quiet can put that off.
	maxSettleTime = 10 * settleTime
)

// fileWatch tells when a file may have changed. It watches directories, as an editor puts a new file in
// the place of the old one, and Kubernetes a new symbolic link. What it can't see, such as a link further
// up in the path, or another machine's change of a network file system, is found at the next look.
type fileWatch struct {
	path string
	// further are other files, or directories, whose changes count as well; nil: there are none.
	further func() []string
	// moved gets a word when further has changed; nil: it never does.
	moved <-chan struct{}
	// changes gets a word when it is time to look: at the start, after changes, and every now and then.
	changes chan<- struct{}
	every   time.Duration // between looks without an occasion
	log     *slog.Logger
}

// Run watches until ctx ends. It always returns nil: if the kernel has no more watches to give, it just
// looks every now and then.
func (w *fileWatch) Run(ctx context.Context) error {
	var events <-chan fsnotify.Event
	var missed <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("the file can't be watched; it is looked at every now and then", "config", w.path, "every", w.every,
			"error", err, "mend", "raise fs.inotify.max_user_instances, or run with --watch=false")
	} else {
		defer watcher.Close() // which can't fail in a way that matters
		events, missed = watcher.Events, watcher.Errors
	}
	look := time.NewTicker(w.every)
	defer look.Stop()
	w.follow(watcher)
	settled := time.NewTimer(settleTime) // the file may have changed since it was read first, and somebody be at it
	defer settled.Stop()
	var noisySince time.Time // zero: quiet
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			now := time.Now()
			if noisySince.IsZero() {
				noisySince = now
			}
			settled.Reset(min(settleTime, max(0, noisySince.Add(maxSettleTime).Sub(now))))
			continue
		case err := <-missed: // events were lost, most likely: the look that follows makes up for it
			w.log.Warn("the watch of the file missed something", "config", w.path, "error", err)
		case <-settled.C:
		case <-w.moved: // what changed since they were read is found by the look
		case <-look.C:
		}
		noisySince = time.Time{}
		w.follow(watcher) // before the look, which finds what changed until then
		select {
		case <-ctx.Done():
			return nil
		case w.changes <- struct{}{}:
		}
	}
}

// follow watches the directories that lead to the file now. One that can't be watched is tried again at
// the next look.
func (w *fileWatch) follow(watcher *fsnotify.Watcher) {
	if watcher == nil {
		return
	}
	for _, dir := range w.directories() {
		if err := watcher.Add(dir); err != nil {
			w.log.Debug("a directory can't be watched", "directory", dir, "error", err)
		}
	}
}

// directories are those that lead to the files.
func (w *fileWatch) directories() []string {
	paths := []string{w.path}
	if w.further != nil {
		paths = append(paths, w.further()...)
	}
	var dirs []string
	for _, path := range paths {
		dirs = appendNew(dirs, filepath.Dir(path))
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue
		}
		if info, err := os.Stat(target); err == nil && info.IsDir() {
			dirs = appendNew(dirs, target)
			continue
		}
		dirs = appendNew(dirs, filepath.Dir(target))
	}
	return dirs
}
