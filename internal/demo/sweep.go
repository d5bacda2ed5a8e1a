package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weir-limiter/weir/pkg/loader"
)

const pinPrefix = "weir-demo-"

// pinName is the name of this process' state directory.
func pinName() string { return fmt.Sprint(pinPrefix, os.Getpid()) }

// sweep removes what demos that were killed have left behind. A demo locks its state directory, and a lock ends with its process,
// so one that can be locked is nobody's. The number in the name says less: another process may have it by now.
func sweep(pinDir string) error {
	found, err := loader.Locate(pinDir)
	if errors.Is(err, loader.ErrNoBPFFS) {
		return nil // nothing is mounted, so nothing is left
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(found)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for what an earlier demo left: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), pinPrefix) {
			continue
		}
		path := filepath.Join(pinDir, e.Name())
		if err := removeAbandoned(path); err != nil {
			return fmt.Errorf("remove what an earlier demo left: %w (run: rm -r %s)", err, path)
		}
	}
	return nil
}

func removeAbandoned(path string) error {
	d, err := loader.Lock(path, 0)
	if errors.Is(err, loader.ErrLocked) {
		return nil // its demo is running
	}
	if err != nil {
		return err
	}
	return errors.Join(d.DetachAll(), d.Close())
}
