package top

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func passedOf(a *amount) uint64 { return a.passed }

// A series is the same as a list of everything that came, of which the last seconds are looked at.
func TestSeries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &series{}
		came := map[int64]uint64{}
		now, last := time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "boot")), int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = max(0, now+time.Duration(rapid.OneOf(
				rapid.Int64Range(-3e9, 3e9), rapid.Int64Range(-200e9, 200e9)).Draw(t, "step")))
			bin := s.at(now)
			last = max(last, second(now))
			if remembered := second(now) > last-kept; remembered != (bin != nil) {
				t.Fatalf("second %d, of %d: remembered is %v", second(now), last, bin != nil)
			}
			if bin != nil {
				bin.passed++
				came[second(now)]++
			}
		}
		first := rapid.Int64Range(-5, last+5).Draw(t, "first")
		end := first + rapid.Int64Range(-2, 80).Draw(t, "length")
		var sum uint64
		want := make([]uint64, 0)
		for sec := max(first, last-kept+1); sec <= last; sec++ {
			sum += came[sec]
		}
		for sec := first; sec < end; sec++ {
			n := uint64(0)
			if sec > last-kept {
				n = came[sec]
			}
			want = append(want, n)
		}
		if got := s.since(first); got.passed != sum {
			t.Fatalf("since(%d) = %d, want %d", first, got.passed, sum)
		}
		if got := s.history(first, end, passedOf); !slices.Equal(got, want) {
			t.Fatalf("history(%d, %d) = %d, want %d", first, end, got, want)
		}
	})
}

func TestFew(t *testing.T) {
	var f few[string]
	if _, ok := f.most(); ok {
		t.Error("nothing is most frequent")
	}
	for _, c := range []struct {
		key    string
		weight uint64
		most   string
	}{
		{"a", 5, "a"}, {"b", 3, "a"}, {"b", 3, "b"}, {"c", 1, "b"}, {"d", 1, "b"},
		{"e", 1, "b"}, // takes over from one of the last two
		{"a", 2, "a"},
		{"f", 7, "f"}, // 8 with what it took over
	} {
		f.add(c.key, c.weight)
		if most, ok := f.most(); !ok || most != c.most {
			t.Errorf("after %s: %s, %v, want %s", c.key, most, ok, c.most)
		}
	}
	f.fade(0)
	if most, ok := f.most(); ok {
		t.Errorf("%s is left when all has faded", most)
	}
}

// A source that sends something else than before is soon known for that.
func TestServicesFade(t *testing.T) {
	s := &source{}
	e := event(1, 0, "pass", 1000)
	s.add(&e)
	for i := range 50 {
		e := event(1, float64(i+10), "pass", 30)
		e.Port = 443
		s.add(&e)
	}
	if most, _ := s.services.most(); most.port != 443 {
		t.Errorf("port %d, want 443", most.port)
	}
}
