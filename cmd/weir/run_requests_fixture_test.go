package main_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

// nobody is a user without any rights.
const nobody = 65534

// gate is a daemon that limits requests alone, with its clients on loopback.
type gate struct {
	t                    *testing.T
	dir, binary          string
	file, runDir         string
	user                 uint32
	process              *process
	http                 string // address of server.http
	client, socketClient *http.Client
}

// newGate starts a daemon with that file, as nobody.
func newGate(t *testing.T, binary, text string) *gate {
	t.Helper()
	g := prepareGate(t, binary, text)
	g.user = nobody
	g.start()
	return g
}

// prepareGate makes what a daemon needs, in a directory that nobody may write to.
func prepareGate(t *testing.T, binary, text string) *gate {
	t.Helper()
	testutil.RequireRoot(t)
	// Not t.TempDir, whose parents only root may enter.
	dir, err := os.MkdirTemp("", "weir-gate-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	g := &gate{t: t, dir: dir, binary: filepath.Join(dir, "weir"), file: filepath.Join(dir, "weir.yaml"), runDir: filepath.Join(dir, "run")}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	// A case that forks meanwhile would hand its child the open file, and running it fails as long as somebody may write.
	syscall.ForkLock.RLock()
	err = os.WriteFile(g.binary, program, 0o755)
	syscall.ForkLock.RUnlock()
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.Mkdir(g.runDir, 0o755), os.Chown(g.runDir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	g.write(text)
	return g
}

// write writes the file. The daemon listens at a port of the kernel's choice.
func (g *gate) write(text string) {
	g.t.Helper()
	if !strings.Contains(text, "server:") {
		text = "server: {http: \"127.0.0.1:0\"}\n" + text
	}
	if !strings.Contains(text, "table:") {
		text = "table: {l7_entries: 1024}\n" + text
	}
	g.writeFile("weir.yaml", text)
}

// writeFile writes a file in one step, so that a daemon that watches it never sees half of it.
func (g *gate) writeFile(name, text string) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o644), os.Rename(path+".new", path)); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// launch starts "weir run", which may fail.
func (g *gate) launch(flags ...string) {
	g.t.Helper()
	args := append([]string{"run", "-c", g.file, "--run-dir", g.runDir}, flags...)
	p := &process{Cmd: exec.Command(g.binary, args...), t: g.t, log: &testutil.Log{}, done: make(chan struct{})}
	p.Stdout, p.Stderr = p.log, p.log
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: g.user, Gid: g.user}}
	if err := p.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() { defer close(p.done); _ = p.Wait() }()
	g.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if g.t.Failed() {
			g.t.Logf("log of %v:\n%s", p.Args, p.log)
		}
	})
	g.process = p
}

// start starts it, and waits until it runs. A file is loaded at SIGHUP alone, so that a test knows when,
// unless other flags are given.
func (g *gate) start(flags ...string) {
	g.t.Helper()
	if flags == nil {
		flags = []string{"--watch=false"}
	}
	g.launch(flags...)
	g.process.waitLog("weir runs", 1)
	g.http = g.listening("http")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(g.runDir, "weir.sock"))
	}
	g.client = &http.Client{Timeout: runLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	g.socketClient = &http.Client{Timeout: runLimit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
}

// listening reads from the log where the daemon listens.
func (g *gate) listening(what string) string {
	g.t.Helper()
	found := regexp.MustCompile(` ` + what + `=(127\.0\.0\.1:\d+)`).FindStringSubmatch(g.process.log.String())
	if found == nil {
		g.t.Fatalf("%s listens nowhere: %s", what, g.process.log)
	}
	return found[1]
}

// answered is what the daemon answered.
type answered struct {
	status int
	header http.Header
	body   string
}

// ask makes a request over TCP; header has pairs of names and values.
func (g *gate) ask(method, path, body string, header ...string) answered {
	g.t.Helper()
	return g.do(g.client, "http://"+g.http, method, path, body, header...)
}

// admin makes a request on the socket.
func (g *gate) admin(method, path, body string, header ...string) answered {
	g.t.Helper()
	return g.do(g.socketClient, "http://weir", method, path, body, header...)
}

func (g *gate) do(c *http.Client, base, method, path, body string, header ...string) answered {
	g.t.Helper()
	request, err := http.NewRequestWithContext(g.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := c.Do(request)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answered{response.StatusCode, response.Header, string(text)}
}

// passes asks by policies so often, and counts what passes.
func (g *gate) passes(times int, context string) (passed int) {
	g.t.Helper()
	for range times {
		switch a := g.ask("POST", "/v1/check", `{"context":`+context+`}`); a.status {
		case 200:
			passed++
		case 429:
		default:
			g.t.Fatalf("check: %d %s", a.status, a.body)
		}
	}
	return passed
}

// wantPasses holds that of so many requests so many pass.
func (g *gate) wantPasses(what string, times, want int, context string) {
	g.t.Helper()
	if got := g.passes(times, context); got != want {
		g.t.Errorf("%s: %d of %d pass, want %d", what, got, times, want)
	}
}

// reload has the file loaded, and waits until the daemon says what became of it.
func (g *gate) reload(says string, times int) {
	g.t.Helper()
	g.process.signal(syscall.SIGHUP)
	g.process.waitLog(says, times)
}

// ran is what a command printed.
type ran struct {
	code     int
	out, err string
}

// weir runs a command beside the daemon, by the same user.
func (g *gate) weir(stdin string, args ...string) ran {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), g.binary, append(args, "--run-dir", g.runDir)...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: g.user, Gid: g.user}}
	if failed := cmd.Run(); failed != nil && cmd.ProcessState == nil {
		g.t.Fatal(failed)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), err.String()}
}

// wantRan holds a command to what it prints. Digits of times are not compared: see clockless.
func (g *gate) wantRan(code int, out string, args ...string) {
	g.t.Helper()
	r := g.weir("", args...)
	if r.code != code || clockless(r.out) != out {
		g.t.Errorf("weir %v: exit code %d, want %d; %s\ngot:\n%s\nwant:\n%s", args, r.code, code, r.err, clockless(r.out), out)
	}
}

// clockless writes how long something lasts as T, as that depends on how fast the test is.
func clockless(text string) string {
	return regexp.MustCompile(`((?:again|retry|token) +)in \d[\dhms.µ]*\n`).ReplaceAllString(text, "${1}in T\n")
}
