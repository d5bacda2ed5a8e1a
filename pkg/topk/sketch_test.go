package topk

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// charge is one Add.
type charge struct {
	now    time.Duration
	key    int
	weight uint64
}

// stream draws charges of few keys that come in any order, some of them far heavier than others.
func stream(t *rapid.T) []charge {
	now := time.Duration(0)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) charge {
		now += time.Duration(rapid.Int64Range(0, 3e9).Draw(t, "gap"))
		late := time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "late"))
		return charge{now - late, rapid.IntRange(0, 40).Draw(t, "key"), rapid.OneOf(
			rapid.Uint64Range(0, 3), rapid.Uint64Range(0, 1<<20)).Draw(t, "weight")}
	}), 1, 400).Draw(t, "stream")
}

// weights are the true, decayed weights at now, and their sum.
func weights(all []charge, now, halfLife time.Duration) (of map[int]float64, total float64) {
	of = map[int]float64{}
	for _, c := range all {
		w := float64(c.weight)
		if halfLife > 0 {
			w *= math.Exp2(-float64(now-c.now) / float64(halfLife))
		}
		of[c.key] += w
		total += w
	}
	return of, total
}

// checkBounds holds a sketch to what doc.go promises. slack is what floats may get wrong, as a part of the total.
func checkBounds(t *rapid.T, s *Sketch[int, int], all []charge, now, halfLife time.Duration, slack float64) {
	of, total := weights(all, now, halfLife)
	slack *= total
	if diff := math.Abs(s.Total(now) - total); diff > slack {
		t.Fatalf("Total() = %v, want %v", s.Total(now), total)
	}
	least := s.Min(now)
	if most := total/float64(s.Size()) + slack; least > most {
		t.Fatalf("Min() = %v, want N/k = %v at most", least, most)
	}
	kept := map[int]bool{}
	before := math.Inf(1)
	for _, e := range s.Top(now, s.Size()) {
		kept[e.Key] = true
		if w := of[e.Key]; w > e.Count+slack || e.Count > w+e.Error+slack {
			t.Fatalf("key %d weighs %v, and has the count %v with an error of %v", e.Key, w, e.Count, e.Error)
		}
		if e.Count > before || e.Count < least {
			t.Fatalf("key %d has the count %v, after %v, and the least is %v", e.Key, e.Count, before, least)
		}
		before = e.Count
	}
	for key, w := range of {
		if !kept[key] && w > least+slack {
			t.Fatalf("key %d weighs %v and is not kept, where the least is %v", key, w, least)
		}
	}
}

// Whole weights are exact, so without decay the bounds are met without any slack.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New[int, int](rapid.IntRange(1, 50).Draw(t, "size"), 0)
		all := stream(t)
		for i, c := range all {
			s.Add(c.now, c.key, c.weight)
			checkBounds(t, s, all[:i+1], c.now, 0, 0)
		}
	})
}

func TestBoundsDecayed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		halfLife := time.Duration(rapid.Int64Range(1e6, 60e9).Draw(t, "half-life"))
		s := New[int, int](rapid.IntRange(1, 50).Draw(t, "size"), halfLife)
		all := stream(t)
		for _, c := range all {
			s.Add(c.now, c.key, c.weight)
		}
		checkBounds(t, s, all, all[len(all)-1].now, halfLife, 1e-9)
	})
}

// The uptime of a machine is many half-lives: the landmark has to follow.
func TestDecay(t *testing.T) {
	const halfLife = 10 * time.Second
	const year = 365 * 24 * time.Hour
	s := New[string, int](2, halfLife)
	for _, c := range []struct {
		name string
		now  time.Duration
		add  string
		want []Entry[string, int]
	}{
		{"a giant", year, "giant", []Entry[string, int]{{Key: "giant", Count: 1000}}},
		{"one half-life later", year + halfLife, "second", []Entry[string, int]{{Key: "second", Count: 1000}, {Key: "giant", Count: 500}}},
		{"the giant leaves", year + 2*halfLife, "third", []Entry[string, int]{
			{Key: "third", Count: 1250, Error: 250}, {Key: "second", Count: 500}}},
		{"a day later", year + 24*time.Hour, "third", []Entry[string, int]{{Key: "third", Count: 1000}, {Key: "second"}}},
		{"a year later", 2 * year, "second", []Entry[string, int]{{Key: "second", Count: 1000}, {Key: "third"}}},
	} {
		s.Add(c.now, c.add, 1000)
		got := s.Top(c.now, 9)
		for i := range got {
			got[i].Value = nil
			got[i].Count, got[i].Error = math.Round(got[i].Count*1e6)/1e6, math.Round(got[i].Error*1e6)/1e6
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.name, diff)
		}
	}
}

// A value belongs to its key: it stays as long as the key does, and the next key finds none.
func TestValues(t *testing.T) {
	s := New[string, int](2, 0)
	*s.Add(0, "a", 5) = 1
	*s.Add(0, "b", 3) = 2
	if v := s.Add(0, "a", 1); *v != 1 {
		t.Errorf("value of a: %d, want 1", *v)
	}
	if e, ok := s.Lookup(0, "b"); !ok || *e.Value != 2 || e.Key != "b" || e.Count != 3 || e.Error != 0 {
		t.Errorf("Lookup(b) = %+v, %v, want a count of 3 and a value of 2", e, ok)
	}
	if v := s.Add(0, "c", 0); v != nil || kept(s, "c") {
		t.Error("a weight of 0 claims a counter")
	}
	if v := s.Add(0, "c", 1); *v != 0 || kept(s, "b") {
		t.Errorf("c takes over b's value: %d, or b is still kept", *v)
	}
	if s.Len() != 2 || s.Size() != 2 || s.Min(0) != 4 {
		t.Errorf("Len() = %d, Size() = %d, Min() = %v, want 2, 2 and 4", s.Len(), s.Size(), s.Min(0))
	}
	if got := New[string, int](-1, 0); got.Size() != 1 || got.Min(0) != 0 || len(got.Top(0, -1)) != 0 {
		t.Error("a size below 1 is not 1")
	}
}

func kept(s *Sketch[string, int], key string) bool {
	_, ok := s.Lookup(0, key)
	return ok
}

// zipf draws keys some of which are frequent, and more of them than a sketch keeps.
func zipf(n int) []uint64 {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, 1<<20)
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = z.Uint64()
	}
	return keys
}

// Once it is made, a sketch of any stream takes no more memory: not even where every key is a new one.
func TestNoAllocations(t *testing.T) {
	keys := zipf(1 << 16)
	for _, c := range []struct {
		name string
		key  func(i uint64) uint64
	}{
		{"skewed", func(i uint64) uint64 { return keys[i%uint64(len(keys))] }},
		{"all new", func(i uint64) uint64 { return i }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New[uint64, [2]uint64](1000, 10*time.Second)
			i := uint64(0)
			add := func() {
				s.Add(time.Duration(i)*time.Microsecond, c.key(i), 1+i%100)
				i++
			}
			if n := testing.AllocsPerRun(200_000, add); n != 0 {
				t.Errorf("%v allocations for each Add", n)
			}
			if result := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					add()
				}
			}); result.AllocsPerOp() != 0 || result.AllocedBytesPerOp() != 0 {
				t.Errorf("Add: %v", result)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	keys := zipf(1 << 16)
	for _, c := range []struct {
		name string
		key  func(i uint64) uint64
	}{
		{"skewed", func(i uint64) uint64 { return keys[i%uint64(len(keys))] }},
		{"new", func(i uint64) uint64 { return i }},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := New[uint64, [2]uint64](1024, 10*time.Second)
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				s.Add(time.Duration(i), c.key(i), 1)
			}
		})
	}
}
