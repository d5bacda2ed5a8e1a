package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

// patience is how long anything may take that has to happen.
const patience = 15 * time.Second

// process is a program that runs for as long as its test.
type process struct {
	*testing.T
	cmd  *exec.Cmd
	log  testutil.Log
	done chan struct{} // closed when it has ended
}

// start runs a program in a directory. Its log is shown if the test fails.
func start(t *testing.T, dir string, program string, args ...string) *process {
	t.Helper()
	p := &process{T: t, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir) // what Caddy keeps
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = time.Second // for what children keep open
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%v (install it by scripts/deps.sh)", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(program), p.log.String())
		}
	})
	return p
}

// stop ends the process, at last by force, and waits for its end.
func (p *process) stop(s syscall.Signal) {
	p.Helper()
	p.signal(s)
	p.signal(syscall.SIGCONT) // or one that is frozen would not hear
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Errorf("%s did not end by %s", p.cmd.Path, s)
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // one that has ended can't be told to
}

// freeze stops the process where it stands, and returns when all of its threads have stopped.
func (p *process) freeze() {
	p.Helper()
	p.signal(syscall.SIGSTOP)
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WSTOPPED, nil)
		switch {
		case err == nil:
			return
		case !errors.Is(err, unix.EINTR):
			p.Fatalf("wait until %s has stopped: %v", p.cmd.Path, err)
		}
	}
}

// ended tells whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// eventually asks until the answer is yes, for something that another process does in its own time.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if yes() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// document is a file of docs/integrations.
func document(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "docs", "integrations"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write makes a file in a directory.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
