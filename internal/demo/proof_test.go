package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
)

// proven is a measurement that proves what it should; each case spoils one thing about it.
func proven() (Measurement, Kernel) {
	const active = 10 * time.Second // grants 10 200
	m := Measurement{
		Clients: []Client{
			{Name: "good client", Kind: KindGood, Sent: 2000, Passed: 2000, Active: active},
			{Name: "IPv4 flooder", Kind: KindFlooder, Sent: 500_000, Passed: 10_200, Dropped: 489_800, Active: active},
			{Name: "spoofed flood", Kind: KindSpoofed, Sent: 1_000_000, Passed: 1_000_000, Active: active},
		},
		Exchanges: Exchanges{OK: 1000},
	}
	return m, Kernel{Passed: 1_012_204, Dropped: 489_800, Segments: 4}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*Measurement, *Kernel)
		fault string // a part of the summary; empty: proved
	}{
		{"all is well", func(*Measurement, *Kernel) {}, ""},
		{"a flooder gets one per cent more", func(m *Measurement, k *Kernel) {
			m.Clients[1].Passed += 102
			m.Clients[1].Dropped -= 102
			k.Passed += 102
			k.Dropped -= 102
		}, ""},
		{"a flooder gets too much", func(m *Measurement, k *Kernel) {
			m.Clients[1].Passed += 200
			m.Clients[1].Dropped -= 200
			k.Passed += 200
			k.Dropped -= 200
		}, "over its limit"},
		{"a flooder gets too little", func(m *Measurement, k *Kernel) {
			m.Clients[1].Passed -= 400
			m.Clients[1].Dropped += 400
			k.Passed -= 400
			k.Dropped += 400
		}, "held below"},
		{"a flooder sends too little", func(m *Measurement, k *Kernel) { m.Clients[1].Sent = 10_200; m.Clients[1].Dropped = 0; k.Dropped = 0 }, "too little to tell"},
		{"the good client loses a packet", func(m *Measurement, k *Kernel) {
			m.Clients[0].Passed--
			m.Clients[0].Dropped++
			k.Passed--
			k.Dropped++
		}, "lost 1 of 2,000"},
		{"an exchange fails", func(m *Measurement, _ *Kernel) { m.Exchanges.Failed = 1 }, "1 exchange of the good client failed"},
		{"nothing is exchanged", func(m *Measurement, _ *Kernel) { m.Exchanges.OK = 0 }, "exchanged nothing"},
		{"strangers are dropped", func(m *Measurement, k *Kernel) {
			m.Clients[2].Passed -= 20_000
			m.Clients[2].Dropped += 20_000
			k.Passed -= 20_000
			k.Dropped += 20_000
		}, "spoofed flood were dropped"},
		{"somebody sends nothing", func(m *Measurement, k *Kernel) {
			m.Clients[2] = Client{Name: "spoofed flood", Kind: KindSpoofed}
			k.Passed -= 1_000_000
		}, "sent nothing"},
		{"the kernel counts other passes", func(_ *Measurement, k *Kernel) { k.Passed += 10 }, "counted 1,012,214 packets as passed"},
		{"the kernel counts other drops", func(_ *Measurement, k *Kernel) { k.Dropped += 10 }, "the application missed"},
	} {
		m, k := proven()
		tt.spoil(&m, &k)
		r := judge(10*time.Second, Measurement{}, m, k)
		if r.Proved != (tt.fault == "") || !strings.Contains(r.Summary, tt.fault) {
			t.Errorf("%s: proved %v: %s", tt.name, r.Proved, r.Summary)
		}
	}
}

// nothingLeft fails if this process' state directory is there: another demo may be running.
func nothingLeft(t *testing.T) {
	t.Helper()
	dirs, err := filepath.Glob(fmt.Sprintf("/sys/fs/bpf/weir-demo-%d*", os.Getpid()))
	if err != nil || len(dirs) > 0 {
		t.Errorf("the demo left %v (%v)", dirs, err)
	}
}

// A shared machine may stand still for longer than the application's sockets can hold what comes in, and
// the demo says so then. A limiter that does not limit fails every time.
func TestRunProves(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	const attempts = 4
	for range attempts {
		r, err := Run(t.Context(), options(), func(Progress) {})
		if err != nil {
			t.Fatal(err)
		}
		nothingLeft(t)
		if r.Proved {
			return
		}
		t.Log(r.Summary)
	}
	t.Errorf("not proved in %d attempts", attempts)
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
