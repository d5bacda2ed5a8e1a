package loader

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/eventtest"
	"github.com/weir-limiter/weir/pkg/policy"
)

var _ [eventSize]byte = [unsafe.Sizeof(eventtest.Event{})]byte{}

// aDrop is an event of somebody over IPv4 who was denied.
func aDrop() eventtest.Event {
	return eventtest.Event{
		Source: [2]uint64{0, 0xc0000201}, Time: 5e9, Packets: 37, Bytes: 3700, Interface: 7, Port: 53,
		Version: 4, Protocol: unix.IPPROTO_UDP, Verdict: 1, Slot: 3, Cause: 1, Hook: 2,
	}
}

func TestDecodeEvent(t *testing.T) {
	drop := Event{
		Source: netip.MustParseAddr("192.0.2.1"), Time: 5 * time.Second, Packets: 37, Bytes: 3700, Interface: 7, Port: 53,
		Protocol: 17, Verdict: policy.VerdictDrop, Slot: 3, Cause: CauseStranger, Hook: "tc-egress",
	}
	passed, six := drop, drop
	passed.Verdict, passed.Cause, passed.Slot = policy.VerdictPass, "", NoSlot
	six.Source, six.Verdict, six.Hook = netip.MustParseAddr("2001:db8::1"), policy.VerdictShadowDrop, "xdp"
	for _, c := range []struct {
		name   string
		change func(*eventtest.Event)
		want   Event
		fault  string
	}{
		{"drop", func(*eventtest.Event) {}, drop, ""},
		{"pass", func(r *eventtest.Event) { r.Verdict, r.Slot = 0, NoSlot }, passed, ""},
		{"IPv6", func(r *eventtest.Event) {
			r.Version, r.Source, r.Verdict, r.Hook = 6, [2]uint64{0x20010db800000000, 1}, 2, 0
		}, six, ""},
		{"no packets", func(r *eventtest.Event) { r.Packets = 0 }, Event{}, "0 packets"},
		{"after the end of time", func(r *eventtest.Event) { r.Time = 1 << 63 }, Event{}, "37 packets at -"},
		{"no such version", func(r *eventtest.Event) { r.Version = 5 }, Event{}, "of version 5"},
		{"no IPv4 address", func(r *eventtest.Event) { r.Source[1] |= 1 << 32 }, Event{}, "source 0:1c0000201 of version 4"},
		{"nor this", func(r *eventtest.Event) { r.Source[0] = 1 }, Event{}, "source 1:c0000201 of version 4"},
		{"no such verdict", func(r *eventtest.Event) { r.Verdict = 3 }, Event{}, "verdict 3"},
		{"no such cause", func(r *eventtest.Event) { r.Cause = 5 }, Event{}, "cause 5"},
		{"no such hook", func(r *eventtest.Event) { r.Hook = 3 }, Event{}, "hook 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := aDrop()
			c.change(&r)
			got, err := decodeEvent(r.Record())
			if c.fault != "" {
				if !errors.Is(err, ErrEvent) || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("got %v, want %q", err, c.fault)
				}
				return
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestDecodeEventLength(t *testing.T) {
	b := append(aDrop().Record(), make([]byte, 8)...)
	for n := range len(b) + 1 {
		if _, err := decodeEvent(b[:n]); (err == nil) != (n == eventSize) {
			t.Errorf("%d Bytes: %v", n, err)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(aDrop().Record())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEvent(b)
		if (err == nil) != e.Source.IsValid() {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestDecodeEventAllocatesNothing(t *testing.T) {
	b := aDrop().Record()
	if n := testing.AllocsPerRun(1000, func() { _, _ = decodeEvent(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
