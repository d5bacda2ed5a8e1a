package ratesync

import "math"

// windowHash is what window.lua keeps.
type windowHash struct {
	w, c, p, t, u float64
	leases        map[string]modelLease
	expires       float64
}

// modelWindow is window.lua in Go.
type modelWindow struct {
	id                                 ID
	w, c, p, t, u                      float64
	lease                              modelLease
	known, behind, dirty, gone, leased bool
	crowd                              bool // a node is new to the bucket
}

// begin is when the window began that a time is in.
func begin(now, length float64) float64 { return now - math.Mod(now, length) }

func (s *modelWindow) load(t *modelTurn, id ID, o *operation) {
	*s = modelWindow{id: id, w: begin(t.now, o.p1)}
	h := t.m.windows[id]
	if h == nil || t.gone(h.expires) {
		return
	}
	s.w, s.c, s.p, s.t, s.u = h.w, h.c, h.p, h.t, h.u
	s.lease, s.known = h.leases[t.node]
	s.shift(begin(t.now, o.p1), o.p1)
}

func (s *modelWindow) shift(start, length float64) {
	switch {
	case s.w == start:
	case s.w > start+length:
		s.w, s.behind = start, true
		s.t, s.u = min(s.t, start+length), min(s.u, start)
	case s.w > start:
	case start-s.w <= length:
		s.p, s.u = s.c, min(s.t, start)
		s.w, s.c, s.t = start, 0, 0
	default:
		s.w, s.c, s.p, s.t, s.u = start, 0, 0, 0, 0
	}
}

func (s *modelWindow) copy() modelState {
	c := *s
	return &c
}

func (s *modelWindow) reset(t *modelTurn, o *operation) {
	*s = modelWindow{id: s.id, w: begin(t.now, o.p1), gone: true}
}

func (s *modelWindow) save(t *modelTurn, o *operation) {
	if h := t.m.windows[s.id]; s.gone || h != nil && t.gone(h.expires) {
		delete(t.m.windows, s.id)
	}
	if !s.dirty {
		return
	}
	h := t.m.windows[s.id]
	if h == nil {
		h = new(windowHash)
		t.m.windows[s.id] = h
		t.grown()
	}
	if s.leased {
		if s.crowd && h.fields() >= mostLeases {
			clear(h.leases)
		}
		h.leases = remember(h.leases, t.node, s.lease)
	}
	length := o.p1
	if o.kind == 4 {
		length *= 2
	}
	h.w, h.c, h.p, h.t, h.u, h.expires = s.w, s.c, s.p, s.t, s.u, t.expires(s.w+length-t.now)
}

// fields is how many the hash has.
func (h *windowHash) fields() int {
	if h.w == 0 {
		return 0
	}
	return 5 + len(h.leases)
}

func (s *modelWindow) covered(t *modelTurn, o *operation) float64 {
	if o.kind == 3 || s.p == 0 || t.now >= s.u+o.p1 {
		return 0
	}
	return min(o.p2, math.Ceil(s.p*min(o.p1, s.w+o.p1-t.now)/o.p1))
}

func (s *modelWindow) figures(t *modelTurn, o *operation, f *figures) {
	f.left = max(0, o.p2-s.covered(t, o)-s.c)
	switch {
	case o.kind == 3 && s.c > 0:
		f.full = s.w + o.p1 - t.now
	case o.kind == 3:
		f.full = 0
	case s.c > 0:
		f.full = max(0, s.t+o.p1-t.now)
	case s.covered(t, o) > 0:
		f.full = min(s.u, s.w) + o.p1 - t.now
	default:
		f.full = 0
	}
}

func (s *modelWindow) denied(*modelTurn, *operation) { s.dirty = s.dirty || s.behind }

// fits is how far into a window the hits of the one before count as most at most.
func fits(before, most, length float64) float64 {
	if before <= most {
		return 0
	}
	after := math.Ceil(length * (before - most) / before)
	if math.Ceil(before*(length-after)/length) > most {
		after++
	}
	return after
}

func (s *modelWindow) wait(t *modelTurn, o *operation) float64 {
	rest := s.w + o.p1 - t.now
	switch {
	case o.hits > o.p2:
		return never
	case o.kind == 3:
		return rest
	case s.c+o.hits <= o.p2:
		return max(1, min(fits(s.p, o.p2-s.c-o.hits, o.p1)-o.p1+rest, s.u+o.p1-t.now))
	}
	return max(1, rest, min(rest+fits(s.c, o.p2-o.hits, o.p1), s.t+o.p1-t.now))
}

func (s *modelWindow) do(t *modelTurn, o *operation, f *figures) bool {
	switch o.verb {
	case Take:
		if !s.enough(t, o, f) {
			s.denied(t, o)
			return false
		}
		s.c, s.t, s.dirty = s.c+o.hits, max(s.t, t.now), true
	case Look:
		s.enough(t, o, f)
	case Lease:
		s.lend(t, o, f)
	case Return:
		of := o.grant
		switch {
		case of == 0 && s.known:
			of = s.lease.of
		case of == 0:
			of = s.w
		}
		if s.giveBack(o, o.hits, of) {
			s.dirty = true
		}
	}
	return true
}

func (s *modelWindow) enough(t *modelTurn, o *operation, f *figures) bool {
	if s.c+o.hits <= o.p2-s.covered(t, o) {
		f.status, f.grant = admitted, s.w
		return true
	}
	f.wait = s.wait(t, o)
	return false
}

// giveBack takes n off the window that began at w, if it still counts, and says whether that was any.
func (s *modelWindow) giveBack(o *operation, n, w float64) bool {
	switch {
	case w == s.w:
		n = min(n, s.c)
		s.c -= n
	case o.kind == 4 && w < s.w && w >= s.w-o.p1:
		n = min(n, s.p)
		s.p -= n
	default:
		return false
	}
	return n > 0
}

func (s *modelWindow) lend(t *modelTurn, o *operation, f *figures) {
	good := s.w + o.p1 - t.now
	if late, same := s.lease.late(s.known, o.seq); late {
		switch {
		case !same:
		case s.lease.of == s.w && s.lease.got > 0:
			f.granted, f.good, f.grant = s.lease.got, good, s.w
		case o.hits == 0:
		case s.c+o.hits <= o.p2-s.covered(t, o):
			f.wait = 1 // there is something by now, for the next lease
		default:
			f.wait = s.wait(t, o)
		}
		return
	}
	var given bool
	if o.seq == 0 {
		given = s.giveBack(o, o.back, s.w)
	} else {
		given = s.giveBack(o, min(o.back, s.lease.got), s.lease.of)
	}
	got := min(o.want, max(0, o.p2-s.covered(t, o)-s.c))
	if got < o.hits {
		got, f.wait = 0, s.wait(t, o)
	}
	if got > 0 {
		s.c, s.t = s.c+got, s.w+o.p1
		f.good, f.grant = good, s.w
	}
	if got > 0 || given {
		s.dirty = true
		if o.seq != 0 {
			s.crowd = s.crowd || !s.known
			s.lease, s.leased, s.known = modelLease{o.seq, got, s.w}, true, true
		}
	} else {
		s.denied(t, o)
	}
	f.granted = got
}
