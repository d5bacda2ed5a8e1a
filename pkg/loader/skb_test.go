package loader

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The offsets of what a test run may set in struct __sk_buff (linux/bpf.h), and its size.
const (
	skbWireLen = 160
	skbGSOSegs = 164
	skbGSOSize = 176
	skbSize    = 192
)

// tcpFrame is a frame of so many bytes, headers included: 14 + 20 + options, and 20 + 12 of TCP with timestamps.
func tcpFrame(options int, size int) []byte {
	b := make([]byte, size)
	b[12], b[14], b[22], b[23] = 8, 0x45+byte(options/4), 64, 6
	binary.BigEndian.PutUint16(b[16:], uint16(size-14))
	b[26], b[30] = 10, 10
	b[34+options+12] = 8 << 4
	return b
}

func tcp6Frame(size int) []byte {
	b := make([]byte, size)
	b[12], b[13], b[14], b[20], b[21], b[22] = 0x86, 0xdd, 0x60, 6, 64, 0xfd
	binary.BigEndian.PutUint16(b[18:], uint16(size-54))
	b[54+12] = 5 << 4
	return b
}

// What the stack hands on as one is charged as the packets that it is on the wire, each with headers of its own.
func TestJoinedPacketsCountAsOnTheWire(t *testing.T) {
	testutil.RequireRoot(t)
	const headers = 14 + 20 + 32
	udp := udpFrame(1)
	for name, test := range map[string]struct {
		frame                   []byte
		segments, size, wireLen uint32
		wantPackets, wantBytes  uint64
	}{
		"one packet":               {tcpFrame(0, 1500), 0, 0, 0, 1, 1500},
		"three of TCP":             {tcpFrame(0, headers+2*1000+500), 3, 1000, 0, 3, 3*headers + 2500},
		"nobody counted":           {tcpFrame(0, headers+2*1000+500), 0, 1000, 0, 3, 3*headers + 2500},
		"nobody counted, all full": {tcpFrame(0, headers+2*1000), 0, 1000, 0, 2, 2*headers + 2000},
		"IP options":               {tcpFrame(8, headers+8+2000), 2, 1000, 0, 2, 2*(headers+8) + 2000},
		"IPv6":                     {tcp6Frame(74 + 2000), 2, 1000, 0, 2, 2*74 + 2000},
		"UDP":                      {append(slices.Clone(udp), make([]byte, 40)...), 2, 29, 0, 2, 100 + 42},
		"the kernel knows better":  {tcpFrame(0, headers+2000), 2, 1000, 2*headers + 2000 + 50, 2, 2*headers + 2000 + 50},
		"TCP header cut off":       {tcpFrame(0, 34+13)[:34+10], 2, 8, 0, 2, 44 + 42},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy.Policy{Name: "all", Scope: policy.ScopePerIP, Limit: 1 << 20, Window: time.Hour, Burst: 1 << 20}.WithDefaults()
			s, err := LoadStandalone(StandaloneOptions{Hook: HookTCIngress, Policies: []policy.Policy{p}, TableEntries: 4})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := make([]byte, skbSize)
			binary.NativeEndian.PutUint32(ctx[skbGSOSegs:], test.segments)
			binary.NativeEndian.PutUint32(ctx[skbGSOSize:], test.size)
			binary.NativeEndian.PutUint32(ctx[skbWireLen:], test.wireLen)
			verdict, err := s.Program().Run(&ebpf.RunOptions{Data: test.frame, Context: ctx})
			if err != nil {
				t.Fatal(err)
			}
			if !passed(HookTCIngress, verdict) {
				t.Errorf("verdict %d", int32(verdict))
			}
			c, err := s.Counters()
			if err != nil {
				t.Fatal(err)
			}
			if n := c.Policies["all"][policy.VerdictPass]; n.Packets != test.wantPackets || n.Bytes != test.wantBytes {
				t.Errorf("counted %+v, want %d packets of %d bytes", n, test.wantPackets, test.wantBytes)
			}
		})
	}
}
