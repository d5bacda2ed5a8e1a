package bench

import (
	"slices"
	"testing"
)

func TestSummarise(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		want    Summary
	}{
		{"one", []float64{7}, Summary{Median: 7, LowerQuartile: 7, UpperQuartile: 7, Min: 7, Max: 7}},
		{"two", []float64{4, 2}, Summary{Median: 3, LowerQuartile: 2.5, UpperQuartile: 3.5, Min: 2, Max: 4}},
		{"odd", []float64{5, 1, 4, 2, 3}, Summary{Median: 3, LowerQuartile: 2, UpperQuartile: 4, Min: 1, Max: 5}},
		{"even", []float64{4, 1, 3, 2}, Summary{Median: 2.5, LowerQuartile: 1.75, UpperQuartile: 3.25, Min: 1, Max: 4}},
		{"a disturbed round", []float64{10, 10, 900, 10, 10}, Summary{Median: 10, LowerQuartile: 10, UpperQuartile: 10, Min: 10, Max: 900}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.samples)
			if got := Summarise(c.samples); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if !slices.Equal(c.samples, before) {
				t.Errorf("the samples are now %v, were %v", c.samples, before)
			}
		})
	}
}

func TestSources(t *testing.T) {
	for n, want := range map[uint64]string{
		1: "1 source", 1 << 16: "65536 sources", 1 << 20: "2^20 sources", flood: "2^32 sources", 1<<20 + 1: "1048577 sources",
	} {
		if got := Sources(n); got != want {
			t.Errorf("Sources(%d) = %q, want %q", n, got, want)
		}
	}
}
