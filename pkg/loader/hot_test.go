package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// hotRecord is struct hot of types.h, for tests.
type hotRecord struct {
	Source            [2]uint64
	Time, Hash        uint64
	Used              uint32
	Port              uint16
	Version, Protocol uint8
	Slot              uint8
	Pad               [7]uint8
}

func (r hotRecord) bytes() []byte {
	b, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		panic(err) // it takes a field without a fixed size
	}
	return b
}

func TestDecodeHot(t *testing.T) {
	good := hotRecord{Source: [2]uint64{0, 0xc0000201}, Time: 5e9, Hash: 77, Used: 1 << 31, Port: 53, Version: 4, Protocol: 17, Slot: 63}
	want := Hot{Key{netip.MustParseAddr("192.0.2.1"), 17, 53}, 5 * time.Second, 1 << 31, 63, 77}
	if got, err := decodeHot(good.bytes()); got != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	six := good
	six.Version, six.Source = 6, [2]uint64{0x20010db800000000, 1}
	want.Source = netip.MustParseAddr("2001:db8::1")
	if got, err := decodeHot(six.bytes()); got != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for name, change := range map[string]func(*hotRecord){
		"no such slot":          func(r *hotRecord) { r.Slot = 64 },
		"after the end of time": func(r *hotRecord) { r.Time = 1 << 63 },
		"no such version":       func(r *hotRecord) { r.Version = 5 },
		"no IPv4 address":       func(r *hotRecord) { r.Source[1] |= 1 << 32 },
		"nor this":              func(r *hotRecord) { r.Source[0] = 1 },
		"padded":                func(r *hotRecord) { r.Pad[6] = 1 },
	} {
		r := good
		change(&r)
		if got, err := decodeHot(r.bytes()); !errors.Is(err, ErrHot) || got != (Hot{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for n := range hotSize + 9 {
		if _, err := decodeHot(append(good.bytes(), make([]byte, 8)...)[:n]); (err == nil) != (n == hotSize) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	b := good.bytes()
	if n := testing.AllocsPerRun(1000, func() { _, _ = decodeHot(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// reconciled are options with which the stage announces sources.
func (s *stage) reconciled(burst uint64) []AttachOptions {
	s.Helper()
	all, err := options(s.name, everyHook[:1], oldSet)
	if err != nil {
		s.Fatal(err)
	}
	all[0].Policies = []policy.Policy{reconciledPolicy("p", burst)}
	return all
}

func (s *stage) attachOptions(all []AttachOptions) {
	s.Helper()
	s.in(func() error {
		return s.withLock(func(d *StateDir) error { _, err := d.AttachAll(all); return err })
	})
}

// State of an older version has no announcements. It is adopted all the same, with its buckets, and has them then.
func TestStateWithoutAnnouncementsIsAdopted(t *testing.T) {
	s := newStage(t)
	s.attachOptions(s.reconciled(1000))
	d, err := Open(s.state)
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []string{hotPin, hotControlPin} {
		if err := os.Remove(d.pin(pin)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.OpenHot(t.TempDir()); !errors.Is(err, ErrNoHot) {
		t.Errorf("got %v, want %v", err, ErrNoHot)
	}
	program := s.program(everyHook[0])
	send(t, program, 1, 700)
	s.attachOptions(s.reconciled(1000))
	program = s.program(everyHook[0])
	h, err := d.OpenHot(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	h.SetShift(0, 8)
	got, stop := runHot(t, h)
	send(t, program, 1, 500) // 300 tokens are left to the source: its bucket was kept
	first := <-got
	if first.Used < 768 || first.Used > 1000 || first.Source != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("announced %+v, want 768 to 1000 used", first)
	}
	stop()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	maps, err := d.Maps()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range maps {
		listed[m.Name] = true
	}
	if !listed[hotPin] || !listed[hotControlPin] {
		t.Errorf("the maps %v are listed, want %s and %s too", listed, hotPin, hotControlPin)
	}
}

// program is the one on a hook.
func (s *stage) program(x target) *ebpf.Program {
	s.Helper()
	p, err := ebpf.NewProgramFromID(s.onHook(x))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { p.Close() })
	return p
}

func send(t *testing.T, p *ebpf.Program, source, n uint32) {
	t.Helper()
	if _, err := p.Run(&ebpf.RunOptions{Data: udpFrame(source), Repeat: n}); err != nil {
		t.Fatal(err)
	}
}

// runHot listens until stop, and returns when the programs know of it.
func runHot(t *testing.T, h *HotSources) (got <-chan Hot, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	all, done := make(chan Hot, 1000), make(chan error, 1)
	go func() {
		defer close(all)
		done <- h.Run(ctx, func(h Hot) { all <- h })
	}()
	for h.until.Load() == 0 {
		if ctx.Err() != nil {
			t.Fatal("nobody listens")
		}
		time.Sleep(time.Millisecond)
	}
	return all, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// One listener at a time; a new one finds every slot silent, and what it says of one slot leaves the others alone.
func TestHotListener(t *testing.T) {
	testutil.NoLeaks(t)
	s := newStage(t)
	s.attachOptions(s.reconciled(1 << 20))
	d, err := Open(s.state)
	if err != nil {
		t.Fatal(err)
	}
	runDir := t.TempDir()
	first, err := d.OpenHot(runDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenHot(runDir); !errors.Is(err, ErrListening) {
		t.Errorf("a second listener: %v", err)
	}
	program := s.program(everyHook[0])
	got, stop := runHot(t, first)
	send(t, program, 1, 1000)
	first.SetShift(1, 0)
	first.SetShift(64, 0)
	first.SetShift(255, 0)
	send(t, program, 1, 1000)
	first.SetShift(0, 12)
	send(t, program, 1, 4000)
	if h := <-got; h.Used < 4096 || h.Used > 4096+64 {
		t.Errorf("announced %+v, want 4096 used first: no slot has a shift before", h)
	}
	stop()
	if first.until.Load() != 0 {
		t.Error("the programs go on when nobody listens")
	}
	send(t, program, 1, 100_000)
	if err := first.Close(); err != nil {
		t.Error(err)
	}

	second, err := d.OpenHot(runDir)
	if err != nil {
		t.Fatal(err)
	}
	got, stop = runHot(t, second)
	send(t, program, 1, 100_000)
	second.SetShift(0, 16)
	send(t, program, 1, 1<<16)
	if h := <-got; h.Used < 4<<16 || h.Used > 4<<16+64 || second.Lost() != 0 {
		t.Errorf("announced %+v, %d lost; want %d used", h, second.Lost(), 4<<16)
	}
	stop()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestCanonicalKeys(t *testing.T) {
	packet := Key{netip.MustParseAddr("2001:db8:1:2:3::4"), 6, 443}
	four := Key{netip.MustParseAddr("::ffff:192.0.2.77"), 17, 53}
	for _, tt := range []struct {
		scope     policy.Scope
		key, want Key
	}{
		{policy.ScopePerIP, packet, Key{Source: netip.MustParseAddr("2001:db8:1:2::")}},
		{policy.ScopePerIP, four, Key{Source: netip.MustParseAddr("192.0.2.0")}},
		{policy.ScopePerEndpoint, four, Key{Protocol: 17, Port: 53}},
		{policy.ScopeGlobal, four, Key{}},
	} {
		p := kernelPolicy("p", 1000, 1000)
		p.Scope, p.IPv4Prefix = tt.scope, 24
		c, err := machine{1, time.Millisecond}.encode(HookXDP, []policy.Policy{p}, [2]uint64{1, 2}, nil)
		if err != nil {
			t.Fatal(err)
		}
		loaded := decode(&c.policies[0], p)
		if got := loaded.Canonical(tt.key); got != tt.want || loaded.hash(got) != loaded.hash(tt.key) {
			t.Errorf("%s: %+v is %+v, want %+v and the same bucket", tt.scope, tt.key, got, tt.want)
		}
	}
}
