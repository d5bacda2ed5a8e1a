package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
)

const (
	// runLimit bounds whatever a test waits for, far above what it takes.
	runLimit = 20 * time.Second
	runHTTP  = "127.0.0.1:8080" // in a namespace of its own
)

// buildWeir builds the program as it is shipped.
func buildWeir(t *testing.T) string {
	t.Helper()
	binary, err := testutil.BuildWeir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// site is a protected host, A, with somebody at the other end of its cable, B.
type site struct {
	*lab.Pair
	t                        *testing.T
	binary, stateDir, runDir string
	file                     string
}

func newSite(t *testing.T, binary string) *site {
	t.Helper()
	testutil.RequireRoot(t)
	pair, err := lab.NewPair(t.Context(), lab.PairSpec{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{
		Pair: pair, t: t, binary: binary, runDir: t.TempDir(), file: filepath.Join(t.TempDir(), "weir.yaml"),
		stateDir: fmt.Sprintf("%s/weir-test-%d-%s", filepath.Dir(loader.DefaultStateDir), os.Getpid(), strings.ToLower(filepath.Base(t.Name()))),
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(s.stateDir); err != nil {
			t.Error(err)
		}
		if err := pair.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// write writes the file: these interfaces, and a policy of that limit per hour.
func (s *site) write(limit int, interfaces ...string) {
	s.t.Helper()
	var list []string
	for _, name := range interfaces {
		list = append(list, "{name: "+name+"}")
	}
	s.writeText(fmt.Sprintf(`interfaces: [%s]
table: {entries: 1024}
server: {http: "%s"}
policies:
  - {name: per-client, scope: per_ip, limit: %d, window: 1h}
`, strings.Join(list, ", "), runHTTP, limit))
}

func (s *site) writeText(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// process is a running weir.
type process struct {
	*exec.Cmd
	t    *testing.T
	log  *testutil.Log
	done chan struct{} // closed once it has ended
}

// run starts "weir run" in the protected host.
func (s *site) run(flags ...string) *process { return s.runBy(nil, flags...) }

// runBy starts it by another command, which is to execute its arguments.
func (s *site) runBy(by []string, flags ...string) *process {
	s.t.Helper()
	args := append(by, s.binary, "run", "-c", s.file, "--bpffs", s.stateDir, "--run-dir", s.runDir)
	args = append(args, flags...)
	p := &process{Cmd: exec.Command(args[0], args[1:]...), t: s.t, log: &testutil.Log{}, done: make(chan struct{})}
	p.Stdout, p.Stderr = p.log, p.log
	// A child has the namespace of the thread that starts it.
	if err := s.A.Do(p.Start); err != nil {
		s.t.Fatal(err)
	}
	go func() { defer close(p.done); _ = p.Wait() }()
	s.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if s.t.Failed() {
			s.t.Logf("log of %v:\n%s", p.Args, p.log)
		}
	})
	return p
}

// signal sends a signal.
func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// end waits until the process has ended, and gives its exit code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(runLimit):
		p.t.Fatalf("weir has not ended; its log:\n%s", p.log)
	}
	return p.ProcessState.ExitCode()
}

// kill kills the process without a warning.
func (p *process) kill() {
	p.t.Helper()
	p.signal(unix.SIGKILL)
	p.end()
}

// waitLog waits until the process has logged a text that many times.
func (p *process) waitLog(text string, times int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d times %q in the log", times, text), func() error {
		if n := strings.Count(p.log.String(), text); n < times {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
}

// eventually waits until check has no objection.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.NewTimer(runLimit)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}
