package netns

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The kernel's verdicts on real packets are those of the Go twin on the same arrival times, packet by packet, and so is
// the bucket that is left. The program reads its clock between two readings of a wrapper: where the twin decides alike on
// both, the kernel has to; in a flood that is nearly every packet.
func TestVerdictsAreThoseOfTheTwin(t *testing.T) {
	for _, test := range []struct {
		rate, burst uint64
		unit        policy.Unit
		load        lab.Load
	}{
		{10, 3, policy.UnitRequests, lab.Load{Duration: time.Second}},
		{1000, 1, policy.UnitRequests, lab.Load{Duration: time.Second / 2}},
		{30_000, 10, policy.UnitRequests, lab.Load{Duration: time.Second / 2}},
		{1_000_000, 5, policy.UnitRequests, lab.Load{Duration: time.Second / 4}},
		{5000, 40, policy.UnitRequests, lab.Load{Rate: 5200, Duration: time.Second}}, // at its limit: the bucket is full at times
		{10_000_000, 6000, policy.UnitBytes, lab.Load{Duration: time.Second / 2}},
	} {
		for _, mode := range []loader.Mode{loader.ModeNative, loader.ModeGeneric} {
			t.Run(fmt.Sprintf("%d %s/s burst %d %s", test.rate, test.unit, test.burst, mode), func(t *testing.T) {
				r := newRig(t, lab.PairSpec{})
				tracer := r.attachTraced(mode, r.policies("p0", test.rate, test.burst, test.unit)...)
				frame, tokens := r.frame(r.A.IPv4, nil), uint64(1)
				if test.unit == policy.UnitBytes {
					tokens = uint64(len(frame))
				}
				f := &flood{frames: [][]byte{frame}, load: test.load, from: r.A}
				if err := pinned(r.within(limit), allowedCPUs(t)[0], f.run); err != nil {
					t.Fatal(err)
				}
				r.awaitSeen(f.sent())
				limit, err := bucket.NewLimit(test.rate, time.Second, test.burst)
				if err != nil {
					t.Fatal(err)
				}
				r.expectTwin(tracer.taken(f.sent()), &limit, tokens)
			})
		}
	}
}

// record is one run of the program: its clock's reading is from entry to exit, both included.
type record struct {
	entry, exit uint64 // ns
	verdict     uint32 // enum xdp_action
}

// expectTwin replays records. Of a bucket that is not full the next TAT does not depend on the clock; of a full one it
// does, and the twin's is known no better than the clock's reading: between low and high. A verdict that was possible
// only from one end on narrows them.
func (r *rig) expectTwin(records []record, l *bucket.Limit, tokens uint64) {
	r.Helper()
	var low, high bucket.Ticks
	var admitted, unsure int
	cost := l.Cost(tokens)
	for i, record := range records {
		entry, exit := bucket.AtNanoseconds(record.entry), bucket.AtNanoseconds(record.exit)
		_, surely := l.Take(high, entry, tokens)
		_, possibly := l.Take(low, exit, tokens)
		passed := record.verdict == xdpPass
		if surely && !passed || !possibly && passed {
			r.Fatalf("packet %d of %d: the kernel's verdict is %d, the twin's the contrary", i, len(records), record.verdict)
		}
		if surely != possibly {
			unsure++
		}
		if !passed {
			low = max(low, entry+l.Depth-cost)
			continue
		}
		admitted++
		high = min(high, exit+l.Depth-cost)
		low, high = max(low, entry)+cost, max(high, exit)+cost
	}
	tat := r.onlyTAT()
	r.Logf("%d packets, %d admitted, %d too close to tell, TAT known to %v", len(records), admitted, unsure, (high - low).Duration())
	if tat < low || tat > high {
		r.Errorf("the bucket's TAT is %d, the twin's %d to %d", tat, low, high)
	}
	if unsure > len(records)/20 {
		r.Errorf("%d of %d verdicts are too close to tell: this test tested little", unsure, len(records))
	}
}

const xdpPass = 2 // enum xdp_action

// onlyTAT is the TAT of the one entry in the table.
func (r *rig) onlyTAT() (tat bucket.Ticks) {
	r.Helper()
	d, err := loader.Open(r.state)
	if err != nil {
		r.Fatal(err)
	}
	table, err := d.OpenBuckets()
	if err != nil {
		r.Fatal(err)
	}
	defer table.Close()
	n := 0
	for e := range table.Entries() {
		tat = e.TAT
		n++
	}
	if n != 1 {
		r.Fatalf("the table has %d entries, want 1", n)
	}
	return tat
}

const (
	maxRecords = 1 << 20
	recordSize = 24
)

// tracer records every run of a program. The runs must be on one CPU.
type tracer struct {
	r       *rig
	scratch *ebpf.Map // entry, and the number of records
	records *ebpf.Map
	memory  []byte // of the records
}

// attachTraced attaches weir's program, wrapped in one that calls it and takes down when, and what it decided. Tracing
// from outside, by fexit, is not allowed everywhere.
func (r *rig) attachTraced(mode loader.Mode, policies ...policy.Policy) *tracer {
	r.Helper()
	t := &tracer{
		r:       r,
		scratch: r.newMap(&ebpf.MapSpec{Name: "scratch", Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1}),
		records: r.newMap(&ebpf.MapSpec{Name: "records", Type: ebpf.Array, KeySize: 4, ValueSize: recordSize, MaxEntries: maxRecords, Flags: unix.BPF_F_MMAPABLE}),
	}
	var err error
	if t.memory, err = unix.Mmap(t.records.FD(), 0, maxRecords*recordSize, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { unix.Munmap(t.memory) })
	spec := objects(r.T)
	t.wrap(spec.Programs["weir_xdp"])
	if err := r.attachObjects(mode, spec, policies...); err != nil {
		r.Fatalf("%+v", err)
	}
	return t
}

func (r *rig) newMap(spec *ebpf.MapSpec) *ebpf.Map {
	r.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { m.Close() })
	return m
}

// wrap makes the program a function, and puts another one of its name before it.
func (t *tracer) wrap(p *ebpf.ProgramSpec) {
	first := p.Instructions[0]
	wrapper := t.wrapper()
	wrapper[0] = btf.WithFuncMetadata(wrapper[0].WithSymbol(first.Symbol()).WithSource(first.Source()), btf.FuncMetadata(&first))
	p.Instructions[0] = first.WithSymbol("wrapped")
	p.Instructions = append(wrapper, p.Instructions...)
}

// wrapper: records[scratch.count++] = {now, now after the call, the call's result}.
func (t *tracer) wrapper() asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.R10, -16, asm.R0, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R6), asm.Call.Label("wrapped"), asm.Mov.Reg(asm.R7, asm.R0),
			asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R6, asm.R0),
			asm.StoreImm(asm.R10, -4, 0, asm.Word),
		},
		lookup(t.scratch),
		asm.Instructions{
			asm.LoadMem(asm.R9, asm.R0, 0, asm.DWord), asm.StoreMem(asm.R10, -4, asm.R9, asm.Word),
			asm.Add.Imm(asm.R9, 1), asm.StoreMem(asm.R0, 0, asm.R9, asm.DWord),
		},
		lookup(t.records),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.R10, -16, asm.DWord), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.StoreMem(asm.R0, 8, asm.R6, asm.DWord), asm.StoreMem(asm.R0, 16, asm.R7, asm.DWord),
			asm.Mov.Reg(asm.R0, asm.R7).WithSymbol("out"), asm.Return(),
		},
	)
}

// lookup puts the address of a map's element, whose index is on top of the stack, into R0, or leaves the program.
func lookup(m *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "out"),
	}
}

// taken are the first n records, in the order of arrival.
func (t *tracer) taken(n uint64) []record {
	t.r.Helper()
	var count [2]uint64
	if err := t.scratch.Lookup(uint32(0), &count); err != nil || count[0] != n || n > maxRecords {
		t.r.Fatalf("%d packets recorded of %d, there is room for %d: %v", count[0], n, maxRecords, err)
	}
	all := make([]record, n)
	for i := range all {
		b := t.memory[i*recordSize:]
		all[i] = record{
			entry:   binary.NativeEndian.Uint64(b),
			exit:    binary.NativeEndian.Uint64(b[8:]),
			verdict: uint32(binary.NativeEndian.Uint64(b[16:])),
		}
	}
	return all
}
