package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
)

// result is what a run of weir left to its caller.
type result struct {
	code     int
	out, err string
}

// weir runs the whole program but for the process, without the kernel unless args ask for it.
func weir(t testing.TB, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := run(t.Context(), &env{out: &out, err: &err}, args)
	return result{code, out.String(), err.String()}
}

// site is a host with an interface for weir, another to send to it, and a state directory of its own.
type site struct {
	pair             *lab.Pair
	stateDir, runDir string
}

func newSite(t *testing.T) *site {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	pair, err := lab.NewPair(ctx, lab.PairSpec{})
	if err != nil {
		t.Fatal(err)
	}
	// A bpf file system has no names with a dot.
	name := strings.NewReplacer("/", "-", ".", "-").Replace(t.Name())
	s := &site{pair: pair, runDir: t.TempDir(), stateDir: fmt.Sprintf("/sys/fs/bpf/weir-test-%d-%s", os.Getpid(), name)}
	t.Cleanup(func() {
		if r := s.weir(t, "detach", "--all"); r.code != exitOK {
			t.Errorf("detach --all: %+v", r)
		}
		if _, err := os.Stat(s.stateDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", s.stateDir, err)
		}
		if err := pair.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// weir runs weir on the host.
func (s *site) weir(t testing.TB, args ...string) (r result) {
	t.Helper()
	err := s.pair.B.Do(func() error {
		r = weir(t, append(args, "--bpffs", s.stateDir, "--run-dir", s.runDir)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ok is weir for what has to succeed; it returns what was printed.
func (s *site) ok(t testing.TB, args ...string) string {
	t.Helper()
	r := s.weir(t, args...)
	if r.code != exitOK || r.err != "" {
		t.Fatalf("weir %s: exit code %d, %s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// json is ok with -o json, decoded into v.
func (s *site) json(t testing.TB, v any, args ...string) {
	t.Helper()
	out := s.ok(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("weir %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// Limits of one token a day, so that no token comes back while a test runs.
// The bursts are below 16, of which no CPU leases anything: so the table has what is told, on a machine with one CPU too.
const testConfig = `table: {entries: 1024}
policies:
  - {name: per-client, scope: per_ip, limit: 10, window: 10d}
  - {name: per-net, scope: per_ip, limit: 15, window: 15d, ipv4_prefix: 24, ipv6_prefix: 56, mode: shadow}
`

func writeConfig(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *site) attach(t testing.TB, config string) {
	t.Helper()
	s.ok(t, "attach", s.pair.B.Interface, "-c", writeConfig(t, config))
}

// inject puts n frames from a source on the cable.
func (s *site) inject(t testing.TB, source netip.Addr, n int) {
	t.Helper()
	frame := s.pair.A.Frame(netip.AddrPortFrom(s.pair.B.Address(source), 9))
	frame.Src = source
	b, err := frame.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = b
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := lab.Inject(ctx, s.pair.A, 0, frames...); err != nil {
		t.Fatal(err)
	}
}

// await looks until the test sees what it waits for.
func (s *site) await(t testing.TB, what string, seen func() bool) {
	t.Helper()
	for begin := time.Now(); !seen(); {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// send puts n frames from a source on the cable, and returns once the policies have counted them.
func (s *site) send(t testing.TB, source netip.Addr, n int) {
	t.Helper()
	before := s.counted(t)
	s.inject(t, source, n)
	s.await(t, fmt.Sprintf("%d frames to be counted", n), func() bool { return s.counted(t) >= before+uint64(n) })
}

// counted is how many packets the first policy had a verdict on.
func (s *site) counted(t testing.TB) (sum uint64) {
	t.Helper()
	var v statusView
	s.json(t, &v, "status")
	for _, n := range v.Attachments[0].Policies[0].Counters {
		sum += n.Packets
	}
	return sum
}

func TestAttachAndDetach(t *testing.T) {
	s := newSite(t)
	var attached attachmentView
	s.json(t, &attached, "attach", "eth0", "-c", writeConfig(t, testConfig))
	if attached.Interface != "eth0" || attached.Mode != "native" || attached.State != "attached" || len(attached.Policies) != 2 {
		t.Errorf("attach: %+v", attached)
	}
	if out := s.ok(t, "detach", "eth0"); out != "detached eth0\n" {
		t.Errorf("detach: %q", out)
	}
	if r := s.weir(t, "detach", "eth0"); r.code != exitFailure {
		t.Errorf("second detach: %+v", r)
	}
}

func TestAttachRefuses(t *testing.T) {
	s := newSite(t)
	file := writeConfig(t, testConfig)
	for _, c := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"no interface", []string{"attach"}, exitUsage, "want one interface"},
		{"unknown hook", []string{"attach", "eth0", "-c", file, "--hook", "tc"}, exitUsage, "want xdp, tc-ingress or tc-egress"},
		{"unknown mode", []string{"attach", "eth0", "-c", file, "--mode", "fast"}, exitUsage, "auto, native or generic"},
		{"a mode of another hook", []string{"attach", "eth0", "-c", file, "--hook", "tc-egress", "--mode", "native"}, exitUsage, "auto, tcx or clsact"},
		{"unknown interface", []string{"attach", "nope0", "-c", file}, exitFailure, "no such interface"},
		{"no file", []string{"attach", "eth0", "-c", file + "x"}, exitFailure, "name the file with -c"},
		{"bad file", []string{"attach", "eth0", "-c", "../../testdata/config/bad/burst-zero.yaml"}, exitFailure, "burst-zero.yaml:"},
		{"nothing to enforce", []string{"attach", "eth0", "-c", writeConfig(t, "policies: []")}, exitFailure, "nothing for the kernel at xdp"},
		{"detach a hook that does not exist", []string{"detach", "eth0", "--hook", "tc"}, exitUsage, "xdp, tc-ingress or tc-egress"},
		{"detach a hook and all", []string{"detach", "--all", "--hook", "xdp"}, exitUsage, "--all takes every one"},
		{"detach what", []string{"detach"}, exitUsage, "--all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.weir(t, c.args...)
			if r.code != c.code || !strings.Contains(r.err, c.err) || r.out != "" {
				t.Errorf("%+v, want exit code %d and %q", r, c.code, c.err)
			}
		})
	}
}
