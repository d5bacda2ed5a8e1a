package lab

import (
	"testing"
	"time"
)

func TestLatencyBuckets(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<40; v = v*17/16 + 1 {
		i := latencyBucket(v)
		if i < last {
			t.Fatalf("bucket of %d is %d, below that of a smaller value", v, i)
		}
		last = i
		bound := uint64(latencyBound(i))
		if bound < v || bound > v+v/16 {
			t.Errorf("%d is reported as %d", v, bound)
		}
	}
	if i := latencyBucket(1<<63 - 1); i >= len(Latency{}.buckets) {
		t.Errorf("the largest duration needs bucket %d", i)
	}
}

func TestLatencyQuantile(t *testing.T) {
	var l Latency
	if l.Quantile(0.5) != 0 {
		t.Error("the quantile of nothing is not 0")
	}
	for i := range 100 {
		l.Observe(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := l.Quantile(q); got < want || got > want+want/16 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if l.Observe(-time.Second); l.Quantile(0) != 0 || l.Count() != 101 {
		t.Error("a negative duration does not count as 0")
	}
}
