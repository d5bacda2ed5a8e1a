package metrics

import "sync"

// monotonic sums a counter over the interfaces. A plain sum would fall when an interface goes, and
// Prometheus takes a counter that falls for one that began anew: what is left of the sum would be
// counted once more. So it adds up what each interface gained since it was last seen.
type monotonic struct {
	mu   sync.Mutex
	sum  uint64
	last map[string]uint64
}

func (m *monotonic) add(interfaces []Interface) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := make(map[string]uint64, len(interfaces))
	for _, i := range interfaces {
		// An interface that is new, or was attached anew, counts from 0.
		if last := m.last[i.Name]; i.Pressure >= last {
			m.sum += i.Pressure - last
		} else {
			m.sum += i.Pressure
		}
		seen[i.Name] = i.Pressure
	}
	m.last = seen
	return m.sum
}
