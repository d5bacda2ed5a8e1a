package bucket

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The vectors drive this package, the native C tests (bpf/test/vectors.c) and the same C in the
// kernel (test/progrun). A line is a verb and decimal numbers:
//
//	limit TOKENS WINDOW_NS BURST = TOKEN_TIME DEPTH FRAC_BITS    the limit of the lines that follow
//	take TAT NOW COST = ADMITTED NEXT
//	hash VERSION HIGH LOW MASK4 MASK6_HIGH MASK6_LOW OFFSET4 OFFSET6 MULTIPLIER0 MULTIPLIER1 = HASH
//	clear                                                        an empty set for the lines that follow
//	set FINGERPRINT NOW COST EVICT_DEBT = FLAGS (FINGERPRINT USED TAT) times four
//	refund FINGERPRINT COST = (FINGERPRINT USED TAT) times four
var update = flag.Bool("update", false, "write testdata/vectors anew from this package")

func vectorsPath() string {
	return filepath.Join("..", "..", "testdata", "vectors", "bucket.txt")
}

func TestVectors(t *testing.T) {
	if *update {
		if err := os.WriteFile(vectorsPath(), []byte(generateVectors()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(vectorsPath())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newReplay()
	lines := bufio.NewScanner(f)
	n := 0
	for line := 1; lines.Scan(); line++ {
		text := lines.Text()
		if text == "" || text[0] == '#' {
			continue
		}
		n++
		input, _, _ := strings.Cut(text, " =")
		if got := r.run(input); got != text {
			t.Errorf("%s:%d:\n got %s\nwant %s", vectorsPath(), line, got, text)
		}
	}
	if lines.Err() != nil || n < 10_000 {
		t.Errorf("replayed %d vectors, want 10 000 or more (%v)", n, lines.Err())
	}
}

// replay runs vectors one after the other, as each kind of test does.
type replay struct {
	limit Limit
	table *Table
}

func newReplay() *replay {
	r := &replay{}
	r.clear()
	return r
}

func (r *replay) clear() {
	r.table, _ = NewTable(make([]byte, SetSize))
}

// run returns the whole line, with what this package says behind the input.
func (r *replay) run(input string) string {
	fields := strings.Fields(input)
	arg := make([]uint64, 10)
	for i, f := range fields[1:] {
		fmt.Sscan(f, &arg[i])
	}
	out := input + " = "
	switch fields[0] {
	case "limit":
		l, err := NewLimit(arg[0], time.Duration(arg[1]), arg[2])
		if err != nil {
			return out + err.Error()
		}
		r.limit = l
		return out + fmt.Sprint(l.TokenTime, uint64(l.Depth), l.FracBits)
	case "take":
		next, admitted := r.limit.Take(Ticks(arg[0]), Ticks(arg[1]), arg[2])
		return out + fmt.Sprint(number(admitted), uint64(next))
	case "hash":
		return out + fmt.Sprint(hashWords(arg))
	case "clear":
		r.clear()
		return input
	case "set":
		taken := r.table.Take(arg[0]<<32, &r.limit, Ticks(arg[1]), arg[2], arg[3] != 0)
		return out + fmt.Sprint(uint32(taken)) + r.entries()
	case "refund":
		r.table.Refund(arg[0]<<32, &r.limit, arg[1])
		return input + " =" + r.entries()
	}
	return "unknown verb " + fields[0]
}

func (r *replay) entries() string {
	var b strings.Builder
	for way := range r.table.sets[0] {
		e := &r.table.sets[0][way]
		fmt.Fprintf(&b, " %d %d %d", e.loadTag().fingerprint, e.loadTag().used, e.tat.Load())
	}
	return b.String()
}

func hashWords(arg []uint64) uint64 {
	k := HashKey{[2]uint64{arg[6], arg[7]}, [2]uint64{arg[8], arg[9]}}
	m := Mask{uint32(arg[3]), [2]uint64{arg[4], arg[5]}}
	return k.Hash(m, address(arg[0], arg[1], arg[2]))
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// generator writes vectors: corner cases first, then random ones from a fixed seed.
type generator struct {
	strings.Builder
	rnd *rand.Rand
	r   *replay
}

func generateVectors() string {
	g := &generator{rnd: rand.New(rand.NewPCG(2, 3)), r: newReplay()}
	g.WriteString("# Written by: go test ./pkg/bucket -run TestVectors -update. vectors_test.go tells the format.\n")
	for _, l := range vectorLimits {
		g.line("limit", l.tokens, uint64(l.window), l.burst)
		g.takes(60)
		g.sets(40)
	}
	g.hashes(2000)
	return g.String()
}

var vectorLimits = []struct {
	tokens uint64
	window time.Duration
	burst  uint64
}{
	{1, 24 * time.Hour, 1}, {1, 24 * time.Hour, 100}, {1, time.Hour, 1}, {7, time.Minute, 3},
	{10, time.Second, 10}, {10, time.Second, 1}, {999, time.Second, 200}, {1000, time.Second, 1000},
	{3, time.Second, 7}, {65_537, time.Second, 64}, {1_000_000, time.Second, 1_000_000},
	{30_000_000, time.Second, 30}, {99_999_999, time.Second, 1}, {100_000_000, time.Second, 100_000_000},
	{125_000_000, time.Second, 1514}, {1_250_000_000, time.Second, 1 << 20}, {49_999_999_999, time.Second, 1 << 30},
	{50_000_000_000, time.Second, 1 << 40}, {1, 100 * time.Nanosecond, 5}, {86_400, 24 * time.Hour, 8_640_000},
}

func (g *generator) line(verb string, args ...uint64) {
	input := verb
	for _, a := range args {
		input += fmt.Sprintf(" %d", a)
	}
	g.WriteString(g.r.run(input) + "\n")
}

// instants are where the counter is interesting: its start, its sign bit, its end.
var instants = []uint64{0, 1, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 1<<40}

func (g *generator) takes(n int) {
	l := g.r.limit
	for _, now := range instants {
		for _, ahead := range []uint64{0, 1, 1<<64 - 1, uint64(l.Depth), uint64(l.Depth) + 1, uint64(l.Depth) - 1,
			uint64(l.Depth - l.Cost(1)), uint64(l.Depth-l.Cost(1)) + 1, uint64(l.Depth + skewMax), uint64(l.Depth+skewMax) + 1,
			uint64(DepthMax + skewMax), uint64(DepthMax+skewMax) + 1, 1 << 63} {
			g.line("take", now+ahead, now, 1)
		}
		for _, cost := range []uint64{0, l.Burst, l.Burst + 1, 1<<64 - 1} {
			g.line("take", now, now, cost)
		}
	}
	tat, now := g.rnd.Uint64(), g.rnd.Uint64()
	for range n {
		now += g.rnd.Uint64N(uint64(l.Cost(1))*4 + 1)
		if g.rnd.IntN(16) == 0 {
			now -= uint64(g.rnd.IntN(1 << 20)) // another CPU's clock
		}
		cost := 1 + g.rnd.Uint64N(min(l.Burst, 1514))
		g.line("take", tat, now, cost)
		next, _ := l.Take(Ticks(tat), Ticks(now), cost)
		tat = uint64(next)
	}
}

func (g *generator) sets(n int) {
	l := g.r.limit
	for _, start := range instants {
		g.line("clear")
		now := start
		for range n {
			now += g.rnd.Uint64N(uint64(l.Cost(1))/2 + 2)
			source := 1 + g.rnd.Uint64N(7)
			cost := 1 + g.rnd.Uint64N(min(l.Burst, 4))
			if g.rnd.IntN(8) == 0 {
				g.line("refund", source, cost)
				continue
			}
			g.line("set", source, now, cost, g.rnd.Uint64N(2))
		}
	}
}

func (g *generator) hashes(n int) {
	for i := range n {
		version := uint64(4 + 2*g.rnd.IntN(2))
		high, low := uint64(0), uint64(g.rnd.Uint32())
		if version == 6 {
			// Global unicast, so that no address is an IPv4 one mapped into IPv6.
			high, low = 0x2000_0000_0000_0000|g.rnd.Uint64()>>3, g.rnd.Uint64()
		}
		m := NewMask(uint8(i%33), uint8(i%129))
		g.line("hash", version, high, low, uint64(m.IPv4), m.IPv6[0], m.IPv6[1],
			g.rnd.Uint64(), g.rnd.Uint64(), g.rnd.Uint64()|1, g.rnd.Uint64()|1)
	}
}
