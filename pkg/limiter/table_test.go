package limiter

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestTableForgetsNothing prints how many keys that owe a table of the default size holds before the first
// debt is forgotten, and how many of twice that are by then.
func TestTableForgetsNothing(t *testing.T) {
	c := newFakeClock()
	l := newLimiterOf(t, Options{Clock: c.now}, policy.Policy{Name: "p", Scope: policy.ScopePerUser, Limit: 10, Window: time.Hour})
	n, first := 0, 0
	key := []byte("user-")
	for ; n < DefaultEntries/2; n++ {
		if _, err := l.CheckRequest(t.Context(), "", &RequestContext{UserID: string(strconv.AppendInt(key, int64(n), 10))}); err != nil {
			t.Fatal(err)
		}
		if first == 0 && n%1024 == 0 && l.Counters().Table.Pressure > 0 {
			first = n
		}
	}
	forgotten := l.Counters().Table.Pressure
	t.Logf("a table of %d entries forgot its first debt at %d keys, and %d of %d (%.4f %%)", DefaultEntries, first, forgotten, n, 100*float64(forgotten)/float64(n))
	if first < DefaultEntries/100 || float64(forgotten) > 0.06*float64(n) {
		t.Errorf("at %d keys the first, of %d keys %d", first, n, forgotten)
	}
	// What is not owed any more is forgotten without loss.
	c.advance(time.Hour)
	for i := range DefaultEntries / 100 {
		if _, err := l.CheckRequest(t.Context(), "", &RequestContext{UserID: "other-" + strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.Counters().Table.Pressure; got != forgotten {
		t.Errorf("%d debts were forgotten for those that were paid", got-forgotten)
	}
}

// TestMemoryPerKey: 64 bytes at most, all of it asked for at the start.
func TestMemoryPerKey(t *testing.T) {
	const keys = 1 << 20
	heap := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	before := heap()
	l := newLimiterOf(t, Options{Entries: 4 * keys}, policy.Policy{Name: "p", Scope: policy.ScopePerUser, Limit: 10, Window: time.Hour})
	made := heap()
	name := make([]byte, 0, 32)
	request := &RequestContext{}
	for i := range keys {
		name = strconv.AppendInt(append(name[:0], "user-"...), int64(i), 10)
		request.UserID = string(name)
		if _, err := l.CheckRequest(t.Context(), "", request); err != nil {
			t.Fatal(err)
		}
	}
	after := heap()
	s := l.Stats(t.Context())
	bytes := float64(after.HeapAlloc-before.HeapAlloc) / keys
	t.Logf("%.2f bytes a key; %d heap objects when made, %d with %d keys; %d debts forgotten",
		bytes, made.HeapObjects-before.HeapObjects, int64(after.HeapObjects)-int64(before.HeapObjects), s.Table.Claimed, s.Table.Pressure)
	if bytes > 64.1 || int64(after.HeapObjects)-int64(made.HeapObjects) > 100 {
		t.Errorf("%.2f bytes a key, %d objects and then %d", bytes, made.HeapObjects, after.HeapObjects)
	}
	if s.Table.Claimed < keys*99/100 || s.Table.Bytes != 64*keys {
		t.Errorf("%+v", s.Table)
	}
	runtime.KeepAlive(l)
}

// TestOptions refuses tables that are none.
func TestOptions(t *testing.T) {
	for _, entries := range []int{-1, 1, MinEntries / 2, MinEntries + 1, 3 * MinEntries} {
		if _, err := New(Options{Entries: entries}); err == nil {
			t.Errorf("%d entries were taken", entries)
		}
	}
	l, err := New(Options{Entries: MinEntries})
	if err != nil {
		t.Fatal(err)
	}
	if h := l.Health(t.Context()); h.TotalRequests != 0 || h.RedisConfigured || h.Since.IsZero() {
		t.Errorf("%+v", h)
	}
	for range 3 {
		if r, err := l.CheckRequest(t.Context(), "", &RequestContext{}); err != nil || !r.Allowed || r.Policy != "" || r.Limit != 0 {
			t.Errorf("without policies: %+v, %v", r, err)
		}
	}
	d, ok := l.Durations()[BackendMemory]
	total := uint64(0)
	for _, n := range d.Counts {
		total += n
	}
	if s := l.Stats(t.Context()); !ok || total != 3 || len(d.Counts) != len(d.Bounds)+1 || d.Sum <= 0 || s.AverageLatencyMS <= 0 || s.MemoryRequests != 3 {
		t.Errorf("%+v, %+v", d, s)
	}
}
