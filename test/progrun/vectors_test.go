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
		v.Verb, v.Version, v.Source = verbHash, uint32(arg[0]), [2]uint64{arg[1], arg[2]}
		v.Policy.Ipv4Mask, v.Policy.Ipv6Mask = uint32(arg[3]), [2]uint64{arg[4], arg[5]}
		v.Policy.Key.Offset, v.Policy.Key.Multiplier = [2]uint64{arg[6], arg[7]}, [2]uint64{arg[8], arg[9]}
		err := r.call()
		return fmt.Sprintf(" %d", v.Result), err
	case "set":
		v.Verb, v.Fingerprint, v.Now, v.Cost, v.EvictDebt = verbSet, uint32(arg[0]), arg[1], arg[2], uint32(arg[3])
		err := r.call()
		return fmt.Sprintf(" %d", v.Result) + r.ways(), err
	case "refund":
		v.Verb, v.Fingerprint, v.Cost = verbRefund, uint32(arg[0]), arg[1]
		err := r.call()
		return r.ways(), err
	}
	return "", fmt.Errorf("unknown verb %q", fields[0])
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
