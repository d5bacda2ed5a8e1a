package ratesync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKept bounds what is read of the file: a body grows by a third in JSON.
const maxKept = MaxPolicyBody/3*4 + 4096

// readKept reads the set that was kept on disk; nil if there is none. That it can't be read is [ErrPolicySet].
func readKept(path, prefix string) (*PolicySet, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's policies that were kept: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKept+1))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's policies that were kept: %w", err)
	}
	if len(text) > maxKept {
		return nil, noSet("%s has more than %d bytes", path, maxKept)
	}
	var r policyRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, noSet("%s: %w", path, err)
	}
	s, err := r.read(prefix)
	if err != nil {
		return nil, fmt.Errorf("%s (kept by redis.key_prefix %q?): %w", path, prefix, err)
	}
	return s, nil
}

// keep puts a set on disk in the place of the one before, so that after a crash there is one of the two.
func keep(path string, s *PolicySet) (err error) {
	text, err := json.Marshal(&s.record)
	if err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.new") // 0600
	if err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // of no use, and the reason is told
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes a rename outlive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("keep the cluster's policies: %w", err)
	}
	return nil
}
