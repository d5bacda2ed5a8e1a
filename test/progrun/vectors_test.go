package progrun

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weir-limiter/weir/internal/testutil"
)

// The verbs of bpf/test/vectors.bpf.c.
const (
	verbTake = iota
	verbHash
	verbSet
	verbRefund
	verbWait
	verbPace
	verbSlot
	verbSpend
	verbLease
	verbWorth
	verbDeny
	verbDenies
)

// The values of enum policy_scope.
const (
	scopePerIP = iota
	scopePerEndpoint
	scopeGlobal
)

// TestVectors replays testdata/vectors/bucket.txt, whose format is told in pkg/bucket/vectors_test.go,
// in the kernel: its JIT and pkg/bucket agree to the bit.
func TestVectors(t *testing.T) {
	testutil.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	var objects vectorsObjects
	if err := loadVectorsObjects(&objects, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	defer objects.Close()

	f, err := os.Open("../../testdata/vectors/bucket.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &replay{objects: &objects}
	lines := bufio.NewScanner(f)
	n := 0
	for line := 1; lines.Scan(); line++ {
		text := lines.Text()
		if text == "" || text[0] == '#' {
			continue
		}
		n++
		got, err := r.run(text)
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		if _, want, _ := strings.Cut(text, " ="); got != want {
			t.Errorf("bucket.txt:%d: %s\n got%s", line, text, got)
		}
	}
	if lines.Err() != nil || n < 10_000 {
		t.Errorf("replayed %d vectors, want 10 000 or more (%v)", n, lines.Err())
	}
}

// replay keeps the limit and the set from line to line.
type replay struct {
	objects *vectorsObjects
	vector  vectorsVector
}

func (r *replay) run(line string) (string, error) {
	input, expected, _ := strings.Cut(line, " =")
	fields := strings.Fields(input)
	var arg [10]uint64
	for i, f := range fields[1:] {
		if _, err := fmt.Sscan(f, &arg[i]); err != nil {
			return "", err
		}
	}
	v := &r.vector
	switch fields[0] {
	case "limit": // its constants are computed in Go, and only used here
		v.Limit.Burst = arg[2]
		_, err := fmt.Sscan(expected, &v.Limit.TokenTime, &v.Limit.Depth, &v.Limit.FracBits)
		return expected, err
	case "clear":
		v.Set = vectorsVector{}.Set
		return "", nil
	case "take":
		v.Verb, v.Tat, v.Now, v.Cost = verbTake, arg[0], arg[1], arg[2]
		err := r.call()
		return fmt.Sprintf(" %d %d", v.Result, v.Tat), err
	case "hash":
		v.Policy.Scope = scopePerIP
		v.Verb, v.Version, v.Source = verbHash, uint32(arg[0]), [2]uint64{arg[1], arg[2]}
		v.Policy.Ipv4Mask, v.Policy.Ipv6Mask = uint32(arg[3]), [2]uint64{arg[4], arg[5]}
		v.Policy.Key.Offset, v.Policy.Key.Multiplier = [2]uint64{arg[6], arg[7]}, [2]uint64{arg[8], arg[9]}
		err := r.call()
		return fmt.Sprintf(" %d", v.Result), err
	case "endpoint":
		v.Verb, v.Policy.Scope, v.Protocol, v.Port = verbHash, scopePerEndpoint, uint32(arg[0]), uint32(arg[1])
		v.Policy.Key.Offset, v.Policy.Key.Multiplier = [2]uint64{arg[2]}, [2]uint64{arg[3], arg[4]}
		err := r.call()
		return fmt.Sprintf(" %d", v.Result), err
	case "global":
		v.Verb, v.Policy.Scope = verbHash, scopeGlobal
		v.Policy.Key.Offset, v.Policy.Key.Multiplier = [2]uint64{arg[0]}, [2]uint64{arg[1], arg[2]}
		err := r.call()
		return fmt.Sprintf(" %d", v.Result), err
	case "wait":
		v.Verb, v.Tat, v.Now, v.Cost = verbWait, arg[0], arg[1], arg[2]
		err := r.call()
		return fmt.Sprintf(" %d", v.Result), err
	case "pace":
		v.Verb, v.Tat, v.Now, v.Cost, v.Wait = verbPace, arg[0], arg[1], arg[2], arg[3]
		err := r.call()
		return fmt.Sprintf(" %d %d %d", v.Result, v.Tat, v.Wait), err
	case "set":
		v.Verb, v.Fingerprint, v.Now, v.Cost, v.EvictDebt = verbSet, uint32(arg[0]), arg[1], arg[2], uint32(arg[3])
		err := r.call()
		return fmt.Sprintf(" %d", v.Result) + r.ways(), err
	case "refund":
		v.Verb, v.Fingerprint, v.Cost = verbRefund, uint32(arg[0]), arg[1]
		err := r.call()
		return r.ways(), err
	}
	return r.slot(fields[0], &arg)
}

// slot is run for what concerns a slot.
func (r *replay) slot(verb string, arg *[10]uint64) (string, error) {
	v := &r.vector
	v.Slot = vectorsVector{}.Slot
	switch verb {
	case "slot":
		v.Verb, v.Slot.Hash = verbSlot, arg[0]
	case "spend":
		v.Verb, v.Slot.Credit, v.Cost = verbSpend, uint32(arg[0]), arg[1]
		err := r.call()
		return fmt.Sprintf(" %d %d", v.Result, v.Slot.Credit), err
	case "lease":
		v.Verb, v.Lease, v.Cost = verbLease, uint32(arg[0]), arg[1]
	case "worth":
		v.Verb, v.Slot.RateId, v.Slot.Credit = verbWorth, arg[0], uint32(arg[1])
	case "deny":
		v.Verb, v.Now, v.Wait, v.Jiffy = verbDeny, arg[0], arg[1], uint32(arg[2])
		err := r.call()
		return fmt.Sprintf(" %d", v.Slot.DenyUntil), err
	case "denies":
		v.Verb, v.Slot.DenyUntil, v.Slot.DenyTokens, v.Now, v.Cost = verbDenies, arg[0], uint32(arg[1]), arg[2], arg[3]
	default:
		return "", fmt.Errorf("unknown verb %q", verb)
	}
	err := r.call()
	return fmt.Sprintf(" %d", v.Result), err
}

// call has the kernel replay the vector.
func (r *replay) call() error {
	if err := r.objects.Vectors.Put(uint32(0), &r.vector); err != nil {
		return err
	}
	// XDP test runs want a frame of at least an Ethernet header.
	if _, err := r.objects.ReplayVector.Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil {
		return err
	}
	return r.objects.Vectors.Lookup(uint32(0), &r.vector)
}

func (r *replay) ways() string {
	var b strings.Builder
	for _, e := range r.vector.Set.Way {
		fmt.Fprintf(&b, " %d %d %d", e.Fingerprint, e.Used, e.Tat)
	}
	return b.String()
}
