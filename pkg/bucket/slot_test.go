package bucket

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// host is a few CPUs before one table, and a clock.
type host struct {
	rate  *Rate
	table *Table
	cpus  []Slots
	jiffy time.Duration

	start, now Ticks
}

// hosted draws a limit and the machine that it is held on.
func hosted(t *rapid.T, bursts ...uint64) *host {
	h := &host{jiffy: rapid.SampledFrom([]time.Duration{time.Millisecond, 4 * time.Millisecond, 10 * time.Millisecond}).Draw(t, "jiffy")}
	tokens := rapid.SampledFrom([]uint64{1, 10, 1000, 100_000, 10_000_000, 1_000_000_000}).Draw(t, "limit")
	burst := rapid.SampledFrom(bursts).Draw(t, "burst")
	l, err := NewLimit(tokens, time.Second, burst)
	if err != nil {
		t.Fatal(err)
	}
	n := rapid.IntRange(1, 6).Draw(t, "CPUs")
	rate := NewRate(l, n, h.jiffy)
	h.rate, h.cpus = &rate, make([]Slots, n)
	h.table, _ = NewTable(make([]byte, 64*SetSize))
	for i := range h.cpus {
		h.cpus[i].Table = h.table
	}
	h.start = Ticks(rapid.Uint64().Draw(t, "now"))
	h.now = h.start
	return h
}

func (h *host) elapsed() Ticks { return h.now - h.start }

// clock reads the time. The interrupt that counts jiffies is never late.
func (h *host) clock() Clock {
	return Clock{Exact: h.now, Jiffies: 1<<32 + uint64(h.elapsed().Duration()/h.jiffy), Jiffy: h.jiffy}
}

// gained is how many tokens come back in a time.
func (h *host) gained(t Ticks) uint64 {
	return uint64(t) << h.rate.Limit.FracBits / h.rate.Limit.TokenTime
}

// leased is what all CPUs hold of a bucket.
func (h *host) leased(hash uint64) (tokens uint64) {
	for i := range h.cpus {
		if s := &h.cpus[i].slots[SlotIndex(hash)]; s.hash == hash {
			tokens += uint64(s.credit)
		}
	}
	return tokens
}

// meter holds what a bucket admitted against burst + rate * t + CPUs * lease, for all intervals at once. Amounts are
// in ticks.
type meter struct {
	sum    int64 // of what was admitted
	least  int64 // of the sum before an interval began, less the time until then
	tokens uint64
}

func (m *meter) admit(t *rapid.T, h *host, tokens uint64) {
	at := int64(h.elapsed())
	m.least = min(m.least, m.sum-at)
	m.tokens += tokens
	m.sum += int64(h.rate.Limit.Cost(tokens))
	if h.rate.Limit.FracBits > 0 {
		m.sum-- // a cost that is paid in two parts is rounded down twice
	}
	bound := h.rate.Limit.Depth + h.rate.Limit.Cost(uint64(h.rate.Lease)*uint64(len(h.cpus)))
	if beyond := m.sum - at - m.least; beyond > int64(bound) {
		t.Fatalf("an interval that ends at %v has %d ticks beyond its length, want burst + CPUs * lease = %d at most", Ticks(at).Duration(), beyond, bound)
	}
}

// The bound of slot.h, in any interval, however CPUs and sources take turns; and every token that a bucket gave is one that
// was admitted, or that a CPU still holds. The sources share a slot, and so take it from each other.
func TestCPUsHoldTheLeaseBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hosted(t, 1, 10, 100, 999, 20_000, 1_000_000)
		sources := []uint64{7 << 32, 7<<32 | 1, 9 << 32}
		meters := make([]meter, len(sources))
		tokenTime := max(h.rate.Limit.Cost(1), 1)
		for range rapid.IntRange(100, 1500).Draw(t, "packets") {
			switch rapid.IntRange(0, 30).Draw(t, "pause") {
			case 0: // long enough for a part of the burst to come back
				h.now += Ticks(rapid.Uint64Range(0, min(2*uint64(h.rate.Limit.Depth), uint64(time.Hour)<<tickShift)).Draw(t, "long"))
			case 1:
				h.now += Ticks(rapid.Uint64Range(0, uint64(80*time.Millisecond)<<tickShift).Draw(t, "horizon"))
			default:
				h.now += Ticks(rapid.Uint64Range(0, 3*uint64(tokenTime)).Draw(t, "short"))
			}
			cpu := &h.cpus[rapid.IntRange(0, len(h.cpus)-1).Draw(t, "CPU")]
			i := rapid.IntRange(0, len(sources)-1).Draw(t, "source")
			tokens := rapid.Uint64Range(1, min(h.rate.Limit.Burst, 1514)).Draw(t, "tokens")
			if cpu.Take(sources[i], h.rate, h.clock(), tokens, true)&Admitted == 0 {
				continue
			}
			if rapid.IntRange(0, 20).Draw(t, "refund") == 0 { // another policy denied it
				cpu.Refund(sources[i], h.rate, tokens)
				continue
			}
			meters[i].admit(t, h, tokens)
		}
		for i, source := range sources {
			e, found := h.table.Lookup(source)
			if given := uint64(e.Used) - h.leased(source); found && given != meters[i].tokens {
				t.Errorf("source %d: the bucket gave %d tokens, %d were admitted", i, given, meters[i].tokens)
			}
		}
	})
}

// What slots keep back is bounded too: a source that keeps asking gets burst + rate * t, less what CPUs hold, what they gave back
// while others remember a denial, and what comes back while a jiffy ends.
func TestCPUsLoseNothingOfASourceThatKeepsAsking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hosted(t, 2, 10, 100, 999, 20_000)
		const source, other = 7 << 32, 9 << 32 // they share a slot
		admitted := uint64(0)
		step := max(h.rate.Limit.Depth/8, 1)
		for range rapid.IntRange(20, 400).Draw(t, "steps") {
			h.now += Ticks(rapid.Uint64Range(uint64(step)/4, uint64(step)).Draw(t, "step"))
			first := rapid.IntRange(0, len(h.cpus)-1).Draw(t, "first")
			for i := range h.cpus {
				cpu := &h.cpus[(first+i)%len(h.cpus)]
				if rapid.IntRange(0, 20).Draw(t, "other") == 0 {
					cpu.Take(other, h.rate, h.clock(), 1, true)
				}
				for cpu.Take(source, h.rate, h.clock(), 1, true)&Admitted != 0 {
					admitted++
				}
			}
		}
		want := h.rate.Limit.Burst + h.gained(h.elapsed())
		back := uint64(h.rate.Lease)*uint64(len(h.cpus)) + h.gained(step) + 2
		if h.rate.Coarse != 0 {
			back += h.gained(AtNanoseconds(uint64(2 * h.jiffy)))
		}
		if admitted+back < want {
			t.Errorf("in %v %d tokens were admitted of %d, want all but %d", h.elapsed().Duration(), admitted, want, back)
		}
	})
}
