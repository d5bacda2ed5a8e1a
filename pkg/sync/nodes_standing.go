package ratesync

import "time"

// standing is what a node knows by its heartbeats: it is told what was answered and when, and waits for nothing.
type standing struct {
	beats    uint64    // that were answered
	sent     time.Time // the last of them
	nodes    int
	counted  int // nodes, and what else was among them, by the last answer
	garbage  int
	members  []Member
	listedAt time.Time
	epoch    Epoch
	epochs   uint64 // that were new to this node
	made     uint64 // that it began
	skew     time.Duration
}

// apply takes up an answer to a heartbeat that was sent and answered at those times. What follows from it holds from when
// it was sent, as nobody knows when after that the store heard it.
func (s *standing) apply(r beatReply, sent, now time.Time) {
	s.beats++
	s.sent = sent
	// Without a list garbage passes for nodes: it makes shares smaller, and does no harm else.
	s.counted, s.nodes = r.count, r.count
	if r.listed {
		s.members, s.garbage, s.listedAt = r.members, r.garbage, now
		s.nodes = max(1, r.count-r.garbage)
	}
	if s.epoch.Saw(r.epoch, r.epochAge, now) {
		s.epochs++
	}
	if r.made {
		s.made++
	}
	s.skew = r.now.Sub(sent.Round(0).Add(now.Sub(sent) / 2))
}

// list tells whether the next heartbeat should list the nodes: always while there are few, else seldom, as each of n nodes
// that asks for n names makes n*n of them.
func (s *standing) list(now time.Time) bool {
	return s.counted <= fewNodes || now.Sub(s.listedAt) >= listEvery
}
