package ratesync

import (
	"maps"
	"math"
)

// flightSet is what concurrency.lua keeps: what is in flight, and when it is taken for over.
type flightSet struct {
	members map[flightMember]float64
	expires float64
}

// flightMember is one hit of a grant, counted from 1.
type flightMember struct {
	name uint64
	i    int
}

// modelFlight is concurrency.lua in Go. What the script does not hold in its hands but asks of Redis is asked of set.
type modelFlight struct {
	id                ID
	set               *flightSet
	n, last           float64
	dirty, gone, trim bool
	add               map[flightMember]float64
	del               map[flightMember]bool
}

func (s *modelFlight) load(t *modelTurn, id ID, _ *operation) {
	*s = modelFlight{id: id, add: map[flightMember]float64{}, del: map[flightMember]bool{}}
	h := t.m.flights[id]
	if h == nil || t.gone(h.expires) || len(h.members) == 0 {
		return
	}
	s.set = h
	s.last = math.Inf(-1)
	for _, until := range h.members {
		s.last = max(s.last, until)
		if until > t.now {
			s.n++
		}
	}
}

func (s *modelFlight) copy() modelState {
	c := *s
	c.add, c.del = maps.Clone(s.add), maps.Clone(s.del)
	return &c
}

func (s *modelFlight) reset(*modelTurn, *operation) {
	*s = modelFlight{id: s.id, gone: true, add: map[flightMember]float64{}, del: map[flightMember]bool{}}
}

func (s *modelFlight) save(t *modelTurn, o *operation) {
	if h := t.m.flights[s.id]; s.gone || h != nil && (t.gone(h.expires) || len(h.members) == 0) {
		delete(t.m.flights, s.id)
	}
	h := t.m.flights[s.id]
	if s.trim && h != nil {
		for m, until := range h.members {
			h.members[m] = min(until, t.now+o.p1)
		}
	}
	if !s.dirty {
		return
	}
	if h == nil {
		h = &flightSet{members: map[flightMember]float64{}}
		t.m.flights[s.id] = h
		t.grown()
	}
	maps.DeleteFunc(h.members, func(_ flightMember, until float64) bool { return until <= t.now })
	for m := range s.del {
		delete(h.members, m)
	}
	maps.Copy(h.members, s.add)
	h.expires = t.expires(o.p1)
}

func (s *modelFlight) figures(t *modelTurn, o *operation, f *figures) {
	f.left, f.full = max(0, o.p2-s.n), 0
	if s.n > 0 {
		f.full = max(0, min(s.last, t.now+o.p1)-t.now)
	}
}

func (s *modelFlight) denied(t *modelTurn, o *operation) { s.trim = s.trim || s.last > t.now+o.p1 }

func (s *modelFlight) alive(t *modelTurn, m flightMember) bool {
	if _, added := s.add[m]; added {
		return true
	}
	return !s.del[m] && s.set != nil && s.set.members[m] > t.now
}

func (s *modelFlight) do(t *modelTurn, o *operation, f *figures) bool {
	switch o.verb {
	case Take:
		known := s.alive(t, flightMember{o.name, 1})
		if !s.enough(o, f, known) {
			s.denied(t, o)
			return false
		}
		if !known {
			s.begin(t, o)
		}
	case Look:
		s.enough(o, f, s.alive(t, flightMember{o.name, 1}))
	case Return:
		for i := 1; float64(i) <= o.hits; i++ {
			m := flightMember{o.name, i}
			if s.alive(t, m) {
				delete(s.add, m)
				s.del[m], s.dirty = true, true
				s.n--
			}
		}
	}
	return true
}

func (s *modelFlight) enough(o *operation, f *figures, known bool) bool {
	switch {
	case known, s.n+o.hits <= o.p2:
		f.status = admitted
		return true
	case o.hits > o.p2:
		f.wait = never
	default:
		f.wait = min(o.p1, 1e6)
	}
	return false
}

func (s *modelFlight) begin(t *modelTurn, o *operation) {
	until := t.now + o.p1
	for i := 1; float64(i) <= o.hits; i++ {
		m := flightMember{o.name, i}
		s.add[m] = until
		delete(s.del, m)
	}
	s.n, s.last, s.dirty = s.n+o.hits, max(s.last, until), true
}
