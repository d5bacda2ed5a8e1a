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
//	wait TAT NOW TICKS = WAIT
//	pace TAT NOW TICKS AHEAD = ADMITTED NEXT WAIT
//	hash VERSION HIGH LOW MASK4 MASK6_HIGH MASK6_LOW OFFSET4 OFFSET6 MULTIPLIER0 MULTIPLIER1 = HASH
//	endpoint PROTOCOL PORT OFFSET4 MULTIPLIER0 MULTIPLIER1 = HASH
//	global OFFSET4 MULTIPLIER0 MULTIPLIER1 = HASH
//	slot HASH = INDEX
//	spend CREDIT TOKENS = ADMITTED CREDIT
//	lease LEASE TOKENS = TOKENS                                  tokens is what a packet costs
//	worth RATE_ID CREDIT = TICKS
//	deny NOW WAIT JIFFY_NS = UNTIL                               now and until are in ticks if jiffy_ns is 0
//	denies UNTIL DENY_TOKENS NOW TOKENS = DENIED
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
	case "wait":
		return out + fmt.Sprint(uint64(r.limit.wait(Ticks(arg[0]), Ticks(arg[1]), Ticks(arg[2]))))
	case "pace":
		next, wait, admitted := r.limit.Pace(Ticks(arg[0]), Ticks(arg[1]), Ticks(arg[2]), Ticks(arg[3]))
		return out + fmt.Sprint(number(admitted), uint64(next), uint64(wait))
	case "hash":
		return out + fmt.Sprint(hashWords(arg))
	case "endpoint":
		k := HashKey{Offset: [2]uint64{arg[2]}, Multiplier: [2]uint64{arg[3], arg[4]}}
		return out + fmt.Sprint(k.HashEndpoint(uint8(arg[0]), uint16(arg[1])))
	case "global":
		k := HashKey{Offset: [2]uint64{arg[0]}, Multiplier: [2]uint64{arg[1], arg[2]}}
		return out + fmt.Sprint(k.HashGlobal())
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
	return out + slotVerb(fields[0], arg)
}

// slotVerb is run for what concerns a slot.
func slotVerb(verb string, arg []uint64) string {
	switch verb {
	case "slot":
		return fmt.Sprint(SlotIndex(arg[0]))
	case "spend":
		var s Slots
		s.slots[0] = slot{credit: uint32(arg[0])}
		took, _ := s.ask(0, &Rate{}, Clock{}, arg[1])
		return fmt.Sprint(number(took == Admitted), s.slots[0].credit)
	case "lease":
		c := Charge{Tokens: uint32(arg[1])}
		c.lease(&Rate{Lease: uint32(arg[0])}, 0)
		return fmt.Sprint(c.More)
	case "worth":
		s := slot{rateID: arg[0], credit: uint32(arg[1])}
		return fmt.Sprint(uint64(s.worth()))
	case "deny":
		now, rate := Clock{Exact: Ticks(arg[0]), Jiffies: arg[0], Jiffy: time.Duration(arg[2])}, Rate{}
		if arg[2] != 0 {
			rate.Coarse = 1
		}
		return fmt.Sprint(now.after(&rate, min(Ticks(arg[1]), horizonMax)))
	case "denies":
		s := slot{denyUntil: arg[0], denyTokens: uint32(arg[1])}
		return fmt.Sprint(number(s.denies(arg[2]) && arg[3] >= uint64(s.denyTokens)))
	}
	return "unknown verb " + verb
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
		g.waits(40)
		g.sets(40)
	}
	g.hashes(2000)
	g.endpoints(300)
	g.slots(300)
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

// waits are how long a cost of ticks has to wait, and what becomes of it if it may.
func (g *generator) waits(n int) {
	depth := uint64(g.r.limit.Depth)
	for _, now := range instants {
		for _, ahead := range []uint64{0, 1, 1<<64 - 1, depth, depth + 1, depth + 1<<30, uint64(DepthMax + skewMax), uint64(DepthMax+skewMax) + 1} {
			g.line("wait", now+ahead, now, depth)
			g.line("pace", now+ahead, now, 1, ahead-depth)
			g.line("pace", now+ahead, now, 2, ahead-depth)
		}
	}
	now := g.rnd.Uint64()
	for range n {
		debt, cost := g.rnd.Uint64N(2*depth+2), g.rnd.Uint64N(depth+1)
		g.line("wait", now+debt, now, cost)
		g.line("pace", now+debt, now, cost, g.rnd.Uint64N(depth+1))
	}
}

func (g *generator) endpoints(n int) {
	for range n {
		offset, m0, m1 := g.rnd.Uint64(), g.rnd.Uint64()|1, g.rnd.Uint64()|1
		g.line("endpoint", uint64(g.rnd.IntN(256)), uint64(g.rnd.IntN(1<<16)), offset, m0, m1)
		g.line("global", offset, m0, m1)
	}
}

func (g *generator) slots(n int) {
	horizon := uint64(horizonMax)
	for _, now := range instants {
		for _, ahead := range []uint64{0, 1, 1<<64 - 1, 2 * horizon, 2*horizon + 1, 1 << 63} {
			g.line("denies", now+ahead, 1, now, 1)
		}
		for _, wait := range []uint64{1, 255, 256, horizon, horizon + 1, 1 << 61} {
			g.line("deny", now, wait, 0)
			g.line("deny", now>>8, wait, uint64(time.Millisecond))
		}
	}
	for range n {
		tokens := 1 + g.rnd.Uint64N(3000)
		g.line("slot", g.rnd.Uint64())
		g.line("spend", g.rnd.Uint64N(2*tokens), tokens)
		g.line("lease", g.rnd.Uint64N(100*tokens), tokens)
		g.line("worth", g.rnd.Uint64N(maxFracBits+1)<<fracShift|g.rnd.Uint64N(1<<45), g.rnd.Uint64N(1<<14))
		now := g.rnd.Uint64()
		g.line("deny", now, g.rnd.Uint64N(2*horizon), uint64(g.rnd.IntN(2))*pick(g.rnd, 1_000_000, 3_333_333, 4_000_000, 10_000_000))
		g.line("denies", now+g.rnd.Uint64N(3*horizon), tokens, now, tokens-1+g.rnd.Uint64N(3))
	}
}

func pick(rnd *rand.Rand, from ...uint64) uint64 { return from[rnd.IntN(len(from))] }
