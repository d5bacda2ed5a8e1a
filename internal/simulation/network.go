package simulation

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// network brings messages after some time, or never.
type network struct {
	Now      time.Duration
	random   *rand.Rand
	most     time.Duration // a message takes, each way, but for faults
	faults   faults
	messages mailbox
	sequence int
}

// faults are the world's state, which a schedule changes.
type faults struct {
	storeDown bool
	lossy     float64 // of requests and of answers
	mute      float64 // of answers alone
	slow      time.Duration
}

func newNetwork(seed uint64, most time.Duration) network {
	return network{random: rand.New(rand.NewPCG(seed, 0x77656972)), most: most}
}

// message is something that happens at a time.
type message struct {
	at       time.Duration
	sequence int // for an order that does not depend on the heap
	do       func()
}

type mailbox []message

func (m mailbox) Len() int { return len(m) }
func (m mailbox) Less(i, j int) bool {
	if m[i].at != m[j].at {
		return m[i].at < m[j].at
	}
	return m[i].sequence < m[j].sequence
}
func (m mailbox) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *mailbox) Push(x any)   { *m = append(*m, x.(message)) }
func (m *mailbox) Pop() any {
	last := len(*m) - 1
	x := (*m)[last]
	*m = (*m)[:last]
	return x
}

func (w *network) after(d time.Duration, do func()) {
	w.sequence++
	heap.Push(&w.messages, message{w.Now + max(d, 0), w.sequence, do})
}

// deliver does what is due.
func (w *network) deliver() {
	for len(w.messages) > 0 && w.messages[0].at <= w.Now {
		heap.Pop(&w.messages).(message).do()
	}
}

func (w *network) delay() time.Duration {
	return time.Duration(w.random.Int64N(int64(max(1, w.most)))) + w.faults.slow
}

func (w *network) lost(part float64) bool { return part > 0 && w.random.Float64() < part }

// exchange sends a request, which is done if it comes to the store, and whose end is told once: that it was answered, or
// that it was not in time.
func (w *network) exchange(cut *bool, timeout time.Duration, do func(), end func(answered bool)) {
	over := false
	w.after(timeout, func() {
		if !over {
			over = true
			end(false)
		}
	})
	if *cut || w.lost(w.faults.lossy) {
		return
	}
	w.after(w.delay(), func() {
		if *cut || w.faults.storeDown {
			return
		}
		do()
		if w.lost(w.faults.lossy) || w.lost(w.faults.mute) {
			return
		}
		w.after(w.delay(), func() {
			if !*cut && !over {
				over = true
				end(true)
			}
		})
	})
}
