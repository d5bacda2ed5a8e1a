package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
)

// A measurement is of no use whose parts do not belong to one another: each case spoils one thing about a flawless one.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*Measurement, *Kernel)
		fault string // a part of the summary; empty: proved
	}{
		{"all is well", func(*Measurement, *Kernel) {}, ""},
		{"a flooder gets one per cent more", func(m *Measurement, k *Kernel) { shift(&m.Clients[1], k, 110) }, ""},
		{"a flooder gets too much", func(m *Measurement, k *Kernel) { shift(&m.Clients[1], k, 200) }, "over its limit"},
		{"a flooder gets too little", func(m *Measurement, k *Kernel) { shift(&m.Clients[1], k, -400) }, "held below"},
		{"a flooder sends too little", func(m *Measurement, k *Kernel) {
			k.Dropped -= m.Clients[1].Dropped
			m.Clients[1].Sent, m.Clients[1].Dropped = m.Clients[1].Passed, 0
		}, "too little to tell"},
		{"the botnet gets too much", func(m *Measurement, k *Kernel) { shift(&m.Clients[3], k, 600) }, "over its limit"},
		{"the spoofed flood gets too much", func(m *Measurement, k *Kernel) { shift(&m.Clients[4], k, 400) }, "over its limit"},
		{"strangers are all dropped", func(m *Measurement, k *Kernel) { shift(&m.Clients[4], k, -10_800) }, "held below"},
		{"the good client loses a packet", func(m *Measurement, k *Kernel) { shift(&m.Clients[0], k, -1) }, "lost 1 of 2,000"},
		{"an exchange fails", func(m *Measurement, _ *Kernel) { m.Exchanges.Failed = 1 }, "1 exchange of the good client failed"},
		{"nothing is exchanged", func(m *Measurement, _ *Kernel) { m.Exchanges.OK = 0 }, "exchanged nothing"},
		{"somebody sends nothing", func(m *Measurement, k *Kernel) {
			k.Passed -= m.Clients[4].Passed
			k.Dropped -= m.Clients[4].Dropped
			m.Clients[4] = Client{Name: "spoofed flood", Kind: KindSpoofed}
		}, "spoofed flood sent nothing"},
	} {
		m, k := flawless()
		tt.spoil(&m, &k)
		r := judge(ten, m, k)
		if r.Proved != (tt.fault == "") || !strings.Contains(r.Summary, tt.fault) {
			t.Errorf("%s: proved %v: %s", tt.name, r.Proved, r.Summary)
		}
	}
}

// shift lets n more packets of a client through weir; fewer, if n is negative.
func shift(c *Client, k *Kernel, n int) {
	c.Passed += uint64(n)
	c.Dropped -= uint64(n)
	k.Passed += uint64(n)
	k.Dropped -= uint64(n)
}

// nothingLeft fails if this process' state directory is there: another demo may be running.
func nothingLeft(t *testing.T) {
	t.Helper()
	dirs, err := filepath.Glob(fmt.Sprintf("/sys/fs/bpf/weir-demo-%d*", os.Getpid()))
	if err != nil || len(dirs) > 0 {
		t.Errorf("the demo left %v (%v)", dirs, err)
	}
}

// The demo itself repeats what a machine that stood still has disturbed; nothing else is forgiven.
func TestRunProves(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	r, err := Run(t.Context(), options(), func(Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	nothingLeft(t)
	if !r.Proved {
		t.Errorf("in %d attempts: %s", r.Attempts, r.Summary)
	}
	if r.Kernel.Strangers == 0 || r.Kernel.Banned == 0 {
		t.Errorf("weir counted %d drops of strangers and %d by the ban, want some of each", r.Kernel.Strangers, r.Kernel.Banned)
	}
}

// What follows a disturbed attempt begins anew: with an empty table, and counters at zero.
func TestAttachAnew(t *testing.T) {
	ctx, o := testOptions(t)
	s, err := newStage(ctx, o)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	for attempt := 1; attempt <= 2; attempt++ {
		if err := s.attach(o.Duration); err != nil {
			t.Fatal(err)
		}
		k, err := s.kernel()
		if err != nil || k.Passed != 0 || k.Dropped != 0 || s.attempt != attempt {
			t.Errorf("attempt %d, with %+v, %v; want attempt %d without a packet", s.attempt, k, err, attempt)
		}
		target := netip.AddrPortFrom(s.lab.Gateway().IPv4, udpPort)
		frame, err := s.lab.Client("good client").Frame(target).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		sink, err := lab.NewUDPSink(s.lab.Gateway(), udpPort)
		if err != nil {
			t.Fatal(err)
		}
		receiving, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- sink.Run(receiving) }()
		err = errors.Join(lab.Inject(ctx, s.lab.Client("good client"), 0, frame), sink.Await(ctx, 1))
		stop()
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
		if k, err := s.kernel(); err != nil || k.Passed != 1 {
			t.Errorf("%d packets passed, %v, want 1", k.Passed, err)
		}
	}
}

func TestRunThatIsStoppedLeavesNothing(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reports := 0
	_, err := Run(ctx, options(), func(Progress) {
		if reports++; reports == 3 {
			stop()
		}
	})
	if !errors.Is(err, ErrStopped) {
		t.Errorf("Run = %v, want ErrStopped", err)
	}
	nothingLeft(t)
}

func TestOptions(t *testing.T) {
	for _, d := range []time.Duration{0, MinDuration - 1, MaxDuration + 1} {
		o := options()
		o.Duration = d
		if o.Validate() == nil {
			t.Errorf("a duration of %v is accepted", d)
		}
	}
}

func options() Options {
	return Options{Duration: MinDuration, Before: time.Second, PinDir: strings.TrimSuffix(loader.DefaultStateDir, "/weir")}
}
