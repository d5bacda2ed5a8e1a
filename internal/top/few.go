package top

// few keeps what is most frequent of something of which a source has few: Space-Saving on four counters,
// without anything beside them. The zero value is ready to use.
type few[K comparable] [4]struct {
	key    K
	weight float64
}

func (f *few[K]) add(key K, weight uint64) {
	least := 0
	for i := range f {
		if f[i].weight > 0 && f[i].key == key {
			f[i].weight += float64(weight)
			return
		}
		if f[i].weight < f[least].weight {
			least = i
		}
	}
	f[least].key = key
	f[least].weight += float64(weight)
}

// fade makes all that was added so far count less.
func (f *few[K]) fade(factor float64) {
	for i := range f {
		f[i].weight *= factor
	}
}

// most is the most frequent one; false if there is none.
func (f *few[K]) most() (K, bool) {
	heaviest := 0
	for i := range f {
		if f[i].weight > f[heaviest].weight {
			heaviest = i
		}
	}
	return f[heaviest].key, f[heaviest].weight > 0
}
