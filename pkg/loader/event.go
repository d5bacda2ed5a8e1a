package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ErrEvent says that a record is not an event as this version of weir knows them.
var ErrEvent = errors.New("not an event")

// NoSlot stands where a policy's counter slot does, of an event that no policy decided.
const NoSlot = 255

// Cause says why a packet was dropped, or would have been.
type Cause string

// The causes.
const (
	CauseLimit    Cause = "limit"
	CauseStranger Cause = "stranger" // a first-seen source beyond new_sources
	CauseDeny     Cause = "deny"     // the deny list
	CauseBan      Cause = "ban"
	CauseFragment Cause = "fragment" // on_fragment: drop
)

// causes and eventHooks name the enums of types.h, in their order; so do [verdicts].
var (
	causes     = [...]Cause{CauseLimit, CauseStranger, CauseDeny, CauseBan, CauseFragment}
	eventHooks = [...]string{"xdp", "tc-ingress", "tc-egress"}
)

// Event is one packet of a sample. It stands for all packets of its kind, which passed or which did not,
// since the sample before it on the same CPU: the sum over many is an estimate of what each source sent.
type Event struct {
	Source    netip.Addr
	Time      time.Duration // when it was sampled, by the monotonic clock: see [Monotonic]
	Packets   uint64        // that it stands for, itself among them; never 0
	Bytes     uint64        // of them
	Interface int           // the index
	Hook      string
	Protocol  uint8
	Port      uint16 // the destination's; 0 if there is none
	Verdict   policy.Verdict
	// Slot is the counter slot of the policy that denied, or that admitted last; NoSlot if there is none.
	Slot  uint8
	Cause Cause // of a drop, shadow or not; else empty
}

// Monotonic is the instant by the clock that events have: since boot, without the time asleep.
func Monotonic() time.Duration { return sinceBoot() }

// eventSize is sizeof(struct event).
const eventSize = 56

// decodeEvent reads a record of the ring buffer: struct event of types.h, every field in host order.
func decodeEvent(b []byte) (Event, error) {
	if len(b) != eventSize {
		return Event{}, fmt.Errorf("%w: %d bytes, want %d", ErrEvent, len(b), eventSize)
	}
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	verdict, cause, hook := b[48], b[50], b[51]
	e := Event{
		Time: time.Duration(u64(16)), Packets: u64(24), Bytes: u64(32),
		Interface: int(binary.NativeEndian.Uint32(b[40:])), Port: binary.NativeEndian.Uint16(b[44:]),
		Protocol: b[47], Slot: b[49],
	}
	switch {
	case int(verdict) >= len(verdicts), int(cause) >= len(causes), int(hook) >= len(eventHooks):
		return Event{}, fmt.Errorf("%w: verdict %d, cause %d, hook %d", ErrEvent, verdict, cause, hook)
	case e.Packets == 0, e.Time < 0:
		return Event{}, fmt.Errorf("%w: %d packets at %d", ErrEvent, e.Packets, e.Time)
	}
	e.Verdict, e.Hook = verdicts[verdict], eventHooks[hook]
	if e.Verdict != policy.VerdictPass {
		e.Cause = causes[cause]
	}
	source, ok := recordedSource(b[46], u64(0), u64(8))
	if !ok {
		return Event{}, fmt.Errorf("%w: source %x:%x of version %d", ErrEvent, u64(0), u64(8), b[46])
	}
	e.Source = source
	return e, nil
}
