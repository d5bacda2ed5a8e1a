package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/eventtest"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/loader"
)

// toldTop is a source that tells the same always, and notes what it was asked.
type toldTop struct {
	mu      sync.Mutex
	asked   []top.Query
	report  *top.Report
	err     error
	failing chan error // what Run ends with
}

func (s *toldTop) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failing:
		return err
	}
}

func (s *toldTop) Report(_ context.Context, q top.Query) (*top.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q)
	r := *s.report
	r.By = q.By
	return &r, s.err
}

func (s *toldTop) Close() error { return nil }

var errTop = errors.New("it is gone")

func TestTopOnce(t *testing.T) {
	o := topOptions{query: top.Query{By: top.ByBytes, N: 7}, by: "bytes", wait: 20 * time.Millisecond}
	for _, c := range []struct {
		name   string
		output string
		source *toldTop
		want   string
		err    error
	}{
		{"text", "text", &toldTop{report: topReport()}, topText(func() *top.Report { r := topReport(); r.By = top.ByBytes; return r }(), topLayout{}), nil},
		{"json", "json", &toldTop{report: &top.Report{}}, `"by": "bytes",` + "\n", nil},
		{"fails", "text", &toldTop{report: topReport(), err: errTop}, "", errTop},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.NoLeaks(t)
			var out bytes.Buffer
			err := watchTop(t.Context(), &env{out: &out, output: c.output}, c.source, o)
			if !errors.Is(err, c.err) || !strings.Contains(out.String(), c.want) || c.want == "" && out.Len() > 0 {
				t.Errorf("%v, %s\nwant %v, %s", err, out.String(), c.err, c.want)
			}
			if last := c.source.asked[len(c.source.asked)-1]; c.err == nil && last != (top.Query{By: top.ByBytes, N: 7, Window: time.Second}) {
				t.Errorf("asked at last for %+v", last)
			}
		})
	}
}

// Who does not want to wait longer gets what there is; what can't be collected ends the wait.
func TestTopOnceEnds(t *testing.T) {
	o := topOptions{query: top.Query{By: top.ByPassed}, wait: time.Hour}
	t.Run("Ctrl-C", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out bytes.Buffer
		if err := watchTop(ctx, &env{out: &out, output: "text"}, &toldTop{report: topReport()}, o); err != nil || out.String() != topText(topReport(), topLayout{}) {
			t.Errorf("%v, %s", err, out.String())
		}
	})
	t.Run("fault", func(t *testing.T) {
		source := &toldTop{report: topReport(), failing: make(chan error, 1)}
		source.failing <- errTop
		var out bytes.Buffer
		if err := watchTop(t.Context(), &env{out: &out, output: "text"}, source, o); !errors.Is(err, errTop) || out.Len() > 0 {
			t.Errorf("%v, %s", err, out.String())
		}
	})
}

func TestTopUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"top now", "want no arguments"},
		{"top --by size", `by "size": want passed, dropped or bytes`},
		{"top -n 0", "-n 0: want 1 or more"},
		{"top -n 2000", "n 2000: want 1 to 1024"},
		{"top --for 0s", "--for 0s: want 1s to 1m"},
		{"top --for 2m", "--for 2m0s: want 1s to 1m"},
	} {
		if r := weir(t, strings.Fields(c.args)...); r.code != exitUsage || !strings.Contains(r.err, c.want) {
			t.Errorf("weir %s: %+v, want %q", c.args, r, c.want)
		}
	}
}

// topStage is a state directory in which programs emit events, and a runtime directory.
type topStage struct {
	*eventtest.Emitter
	stateDir, runDir string
}

func newTopStage(t *testing.T) *topStage {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	dir := fmt.Sprintf("/sys/fs/bpf/weir-test-%d-%s", os.Getpid(), t.Name())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return &topStage{eventtest.New(t, dir), dir, t.TempDir()}
}

// emit lets a source send so many packets now, as one event.
func (s *topStage) emit(last uint64, verdict uint8, packets uint64) {
	s.Emit(eventtest.Event{
		Source: [2]uint64{0, 0xc0000200 | last}, Time: uint64(loader.Monotonic()), Packets: packets, Bytes: 100 * packets,
		Interface: 7, Port: 53, Version: 4, Protocol: unix.IPPROTO_UDP, Verdict: verdict, Slot: loader.NoSlot, Cause: 3,
	}.Record())
}

// From a program in the kernel to the JSON that scripts read.
func TestTopFromTheKernel(t *testing.T) {
	s := newTopStage(t)
	done := make(chan result, 1)
	go func() {
		done <- weir(t, "top", "--once", "--for", "1s", "-o", "json", "--bpffs", s.stateDir, "--run-dir", s.runDir)
	}()
	s.Await("weir top to listen", func() bool { return s.Until() != 0 })
	s.emit(1, 0, 300)
	s.emit(2, 1, 5000)
	s.emit(1, 1, 10)
	r := <-done
	var v top.Report
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != exitOK || r.err != "" {
		t.Fatalf("%+v: %v", r, err)
	}
	if len(v.Busiest) != 1 || len(v.Denied) != 2 || v.Denied[0].Source != netip.MustParseAddr("192.0.2.2") || v.Events.Samples != 3 {
		t.Fatalf("%+v", v)
	}
	if sent := v.Busiest[0].Passed.PerSecond * v.Window; sent < 299 || sent > 301 || v.Window < 1 || v.Window > 3 {
		t.Errorf("%v packets in %v s, want 300 in a little more than 1 s", sent, v.Window)
	}
	if d := v.Denied[0]; d.DeniedBy == nil || d.DeniedBy.Cause != loader.CauseBan || d.Protocol != "udp" || d.Port != 53 {
		t.Errorf("%+v, want somebody who is banned", d)
	}
	if s.Until() != 0 {
		t.Error("the programs still emit")
	}
}

// There is one listener, and the other one is told who that is.
func TestTopTwice(t *testing.T) {
	s := newTopStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	args := []string{"top", "--once", "--for", "1m", "--bpffs", s.stateDir, "--run-dir", s.runDir}
	go func() { done <- run(ctx, &env{out: &out, err: &errs}, args) }()
	s.Await("weir top to listen", func() bool { return s.Until() != 0 })
	want := fmt.Sprintf("somebody else listens to the events by process %d (", os.Getpid())
	if r := weir(t, args...); r.code != exitFailure || !strings.Contains(r.err, want) {
		t.Errorf("%+v, want %q", r, want)
	}
	cancel()
	if code := <-done; code != exitOK || !strings.Contains(out.String(), "no packets in the last") {
		t.Errorf("exit code %d, %s%s", code, out.String(), errs.String())
	}
}

func TestTopOfNothing(t *testing.T) {
	testutil.RequireRoot(t)
	r := weir(t, "top", "--once", "--bpffs", "/sys/fs/bpf/weir-test-nothing", "--run-dir", t.TempDir())
	if r.code != exitFailure || r.out != "" || r.err != "weir: /sys/fs/bpf/weir-test-nothing: nothing is attached\n" {
		t.Errorf("%+v", r)
	}
}

// Where a daemon answers it is asked, and the kernel is not; what it says is wrong is told.
func TestTopFromTheDaemon(t *testing.T) {
	testutil.NoLeaks(t)
	runDir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(runDir, "weir.sock"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/top", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("n") == "13" {
			http.Error(w, "not today", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(topReport())
	})
	s := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	args := []string{"top", "--once", "--for", "1s", "--bpffs", "/sys/fs/bpf/weir-test-nothing", "--run-dir", runDir}
	if r := weir(t, args...); r != (result{exitOK, topText(topReport(), topLayout{}), ""}) {
		t.Errorf("%+v", r)
	}
	want := "weir: the daemon answers 503 Service Unavailable: not today\n"
	if r := weir(t, append(args, "-n", "13")...); r != (result{exitFailure, "", want}) {
		t.Errorf("%+v, want %q", r, want)
	}
}
