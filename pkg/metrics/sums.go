package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// sums adds up, for each series, what several attachments counted: the hooks of an interface, or all of them.
// A plain sum would fall when one of them goes, and Prometheus takes a counter that falls for one that
// began anew: what is left of the sum would be counted once more. So it adds up what each attachment
// gained since it was last seen. A series that nobody counts in any more is forgotten.
type sums map[seriesKey]*series

type seriesKey struct {
	desc   *prometheus.Desc
	labels string
}

// series is the sum of one series, with what it is made of.
type series struct {
	labels []string
	value  uint64
	last   map[string]uint64 // of each attachment, when it was last read
	now    map[string]uint64
}

// add takes n, as it was read now of one attachment, into a series.
func (s sums) add(attachment string, desc *prometheus.Desc, n uint64, labels ...string) {
	key := seriesKey{desc, strings.Join(labels, "\x00")}
	one := s[key]
	if one == nil {
		one = &series{labels: labels}
		s[key] = one
	}
	if one.now == nil {
		one.now = map[string]uint64{}
	}
	one.now[attachment] += n
}

// read ends a round of adds, and gives the value of every series that was in it.
func (s sums) read() []reading {
	all := make([]reading, 0, len(s))
	for key, one := range s {
		if one.now == nil {
			delete(s, key)
			continue
		}
		for attachment, n := range one.now {
			// One that is new, or was attached anew, counts from 0.
			if last := one.last[attachment]; n >= last {
				n -= last
			}
			one.value += n
		}
		one.last, one.now = one.now, nil
		all = append(all, reading{key.desc, one.labels, one.value})
	}
	return all
}

// reading is the value of a series at one moment.
type reading struct {
	desc   *prometheus.Desc
	labels []string
	value  uint64
}
