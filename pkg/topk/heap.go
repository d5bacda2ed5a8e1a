package topk

// The heap is of indices, and each counter knows its place: that is what lets a key find its own. It is not
// container/heap, whose interface values cost an allocation and a dynamic call for every charge.

func (s *Sketch[K, V]) lighter(a, b int) bool {
	return s.counters[s.heap[a]].weight < s.counters[s.heap[b]].weight
}

func (s *Sketch[K, V]) put(place int, i int32) {
	s.heap[place] = i
	s.counters[i].place = place
}

func (s *Sketch[K, V]) swap(a, b int) {
	i, j := s.heap[a], s.heap[b]
	s.put(a, j)
	s.put(b, i)
}

// down moves a counter that became heavier away from the top.
func (s *Sketch[K, V]) down(place int) {
	for {
		child := 2*place + 1
		if child >= len(s.heap) {
			return
		}
		if right := child + 1; right < len(s.heap) && s.lighter(right, child) {
			child = right
		}
		if !s.lighter(child, place) {
			return
		}
		s.swap(place, child)
		place = child
	}
}

// up moves a new counter, on which there is nothing yet, towards the top.
func (s *Sketch[K, V]) up(place int) {
	for place > 0 {
		parent := (place - 1) / 2
		if !s.lighter(place, parent) {
			return
		}
		s.swap(place, parent)
		place = parent
	}
}
