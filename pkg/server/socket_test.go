package server

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run", "weir.sock")
	l, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: os.ModeSocket | 0o660, filepath.Dir(path): os.ModeDir | 0o755} {
		info, err := os.Lstat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if _, err := ListenSocket(t.Context(), path); !errors.Is(err, ErrSocketInUse) || !strings.Contains(err.Error(), "--run-dir") {
		t.Errorf("a second one: %v, want %v and the mend", err, ErrSocketInUse)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first one after the second: %v", err)
	}
	conn.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after it was closed: %v, want it gone", err)
	}
}

// TestListenSocketReplacesStale: a daemon that was killed leaves its socket behind.
func TestListenSocketReplacesStale(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "weir.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestListenSocketBehindFullQueue: a daemon that is too busy to accept is there all the same.
func TestListenSocketBehindFullQueue(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "weir.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for { // until one has to wait
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(client)
		if err := unix.Connect(client, &unix.SockaddrUnix{Name: path}); err != nil {
			break
		}
	}
	if _, err := ListenSocket(t.Context(), path); !errors.Is(err, ErrSocketInUse) {
		t.Errorf("listen: %v, want %v", err, ErrSocketInUse)
	}
}

func TestListenSocketRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file: "something else is there",
		filepath.Join(dir, strings.Repeat("x", maxSocketPath)): "at most 107",
		filepath.Join(file, "weir.sock"):                       "not a directory",
	} {
		if l, err := ListenSocket(t.Context(), path); err == nil {
			l.Close()
			t.Errorf("%s: listens, want %q", path, want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file that was in the way: %q, %v", text, err)
	}
}

// tokenFile writes a token with a mode that no umask takes from.
func tokenFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	const good = "0123456789abcdef"
	for _, c := range []struct {
		what, text string
		mode       os.FileMode
		want       string // in the error; "" for none
	}{
		{"shortest", good, 0o600, ""},
		{"for a group", " " + good + "\n", 0o640, ""},
		{"read-only", good, 0o400, ""},
		{"for everybody", good, 0o644, "chmod 0600"},
		{"writable by the group", good, 0o620, "chmod 0600"},
		{"short", good[1:], 0o600, "openssl rand"},
		{"empty", "", 0o600, "openssl rand"},
		{"two lines", good + "\n" + good, 0o600, "without blanks"},
		{"not ASCII", good + "ä", 0o600, "without blanks"},
		{"long", strings.Repeat("x", maxToken+1), 0o600, "16 to 4096"},
	} {
		token, err := ReadToken(tokenFile(t, c.text, c.mode))
		switch {
		case c.want == "" && (err != nil || !token.matches(good) || token.matches(good+" ") || token.matches("")):
			t.Errorf("%s: %v, or it matches another", c.what, err)
		case c.want != "" && (!errors.Is(err, ErrToken) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %v with %q", c.what, err, ErrToken, c.want)
		case err != nil && strings.Contains(err.Error(), good[:8]):
			t.Errorf("%s: the error tells the token: %v", c.what, err)
		}
	}
	if _, err := ReadToken(t.TempDir()); !errors.Is(err, ErrToken) {
		t.Errorf("a directory: %v, want %v", err, ErrToken)
	}
	if _, err := ReadToken(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want it missing", err)
	}
	if (Token{}).matches("") {
		t.Error("no token matches the empty one")
	}
}
