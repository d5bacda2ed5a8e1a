package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watched is a running watch of a file that says what may be read.
type watched struct {
	t       *testing.T
	path    string
	changes chan struct{}
}

func watchFile(t *testing.T, path string, every time.Duration) *watched {
	t.Helper()
	w := &watched{t: t, path: path, changes: make(chan struct{})}
	watch := &fileWatch{path: path, changes: w.changes, every: every, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watch.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.waitFor("what it says at the start", "old")
	return w
}

// waitFor waits for a look that finds this text. Others may come before it.
func (w *watched) waitFor(what, text string) {
	w.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		select {
		case <-w.changes:
			if got, err := os.ReadFile(w.path); err == nil && string(got) == text {
				return
			}
		case <-deadline.C:
			w.t.Fatalf("%s: nobody told to look", what)
		}
	}
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// never is longer than a test may take: what is found is found by the watch.
const never = time.Hour

func TestFileWatchSeesHowFilesAreSaved(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, path string, text string){
		"in place": save,
		"renamed over": func(t *testing.T, path, text string) {
			save(t, path+".new", text)
			rename(t, path+".new", path)
		},
		"removed and made anew": func(t *testing.T, path, text string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			save(t, path, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "weir.yaml")
			save(t, path, "old")
			w := watchFile(t, path, never)
			change(t, path, "new")
			w.waitFor("first", "new")
			change(t, path, "newer")
			w.waitFor("second", "newer")
		})
	}
}

// TestFileWatchSeesKubernetes swaps a volume as the kubelet does: weir.yaml leads to ..data/weir.yaml,
// and ..data is a link that is renamed over.
func TestFileWatchSeesKubernetes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	volume := func(version, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(dir, version, "weir.yaml"), text)
		symlink(t, version, filepath.Join(dir, "..data_tmp"))
		rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	}
	volume("..1", "old")
	path := filepath.Join(dir, "weir.yaml")
	symlink(t, "..data/weir.yaml", path)
	w := watchFile(t, path, never)
	volume("..2", "new")
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	w.waitFor("first swap", "new")
	volume("..3", "newer")
	w.waitFor("second swap", "newer")
}

// TestFileWatchFollowsLinks: a file that is a link to somewhere else is watched there.
func TestFileWatchFollowsLinks(t *testing.T) {
	t.Parallel()
	path, target := filepath.Join(t.TempDir(), "weir.yaml"), filepath.Join(t.TempDir(), "real.yaml")
	save(t, target, "old")
	symlink(t, target, path)
	w := watchFile(t, path, never)
	save(t, target, "new")
	w.waitFor("the target's change", "new")
}

// TestFileWatchLooksWithoutOccasion: a directory that was moved away is found again.
func TestFileWatchLooksWithoutOccasion(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "etc")
	path := filepath.Join(dir, "weir.yaml")
	for _, text := range []string{"old", "new"} {
		if err := os.Mkdir(dir+text, 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(dir+text, "weir.yaml"), text)
	}
	symlink(t, dir+"old", dir)
	w := watchFile(t, path, 20*time.Millisecond)
	symlink(t, dir+"new", dir+"tmp")
	rename(t, dir+"tmp", dir)
	w.waitFor("the link above", "new")
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}
