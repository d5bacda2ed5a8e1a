package ratesync

import "math"

// bucketHash is what bucket.lua keeps.
type bucketHash struct {
	d, t, c  float64
	reported bool
	leases   map[string]modelLease
	reports  map[string]uint32 // the last of each node
	expires  float64
}

// modelBucket is bucket.lua in Go. Products are converted before they are added to: a fused operation would differ.
type modelBucket struct {
	id                                          ID
	d, c                                        float64
	lease                                       modelLease
	last                                        uint32 // report; 0: none
	known, behind, dirty, gone, leased, counted bool
	told, crowd                                 bool // crowd: a node is new to the bucket
}

func (s *modelBucket) load(t *modelTurn, id ID, o *operation) {
	*s = modelBucket{id: id}
	h := t.m.buckets[id]
	if h == nil || t.gone(h.expires) {
		return
	}
	s.lease, s.known = h.leases[t.node]
	s.last = h.reports[t.node]
	s.behind = t.now < h.t
	s.d, s.c = max(0, min(h.d-float64(max(0, t.now-h.t)*o.p1), o.p2)), h.c
}

func (s *modelBucket) copy() modelState {
	c := *s
	return &c
}

func (s *modelBucket) reset(*modelTurn, *operation) { *s = modelBucket{id: s.id, gone: true} }

func (s *modelBucket) save(t *modelTurn, o *operation) {
	if h := t.m.buckets[s.id]; s.gone || h != nil && t.gone(h.expires) {
		delete(t.m.buckets, s.id)
	}
	if !s.dirty {
		return
	}
	h := t.m.buckets[s.id]
	if h == nil {
		h = new(bucketHash)
		t.m.buckets[s.id] = h
		t.grown()
	}
	if s.crowd && h.fields() >= mostLeases {
		clear(h.leases)
		clear(h.reports)
	}
	if s.leased {
		h.leases = remember(h.leases, t.node, s.lease)
	}
	if s.told {
		if h.reports == nil {
			h.reports = map[string]uint32{}
		}
		h.reports[t.node] = s.last
	}
	h.d, h.t, h.expires = s.d, t.now, t.expires(math.Ceil(s.d/o.p1))
	if s.counted {
		h.c, h.reported = s.c, true
	}
}

// fields is how many the hash has.
func (h *bucketHash) fields() int {
	n := len(h.leases) + len(h.reports)
	if h.t != 0 {
		n += 2
	}
	if h.reported {
		n++
	}
	return n
}

func (s *modelBucket) figures(_ *modelTurn, o *operation, f *figures) {
	f.left, f.full = math.Floor(o.p2-s.d), math.Ceil(s.d/o.p1)
}

func (s *modelBucket) denied(*modelTurn, *operation) { s.dirty = s.dirty || s.behind }

func (s *modelBucket) do(t *modelTurn, o *operation, f *figures) bool {
	switch o.verb {
	case Take:
		d, enough := s.enough(o, f)
		if !enough {
			s.denied(t, o)
			return false
		}
		s.d, s.dirty = d, true
		if o.kind == 2 {
			f.grant = t.now + math.Ceil(d/o.p1)
		}
	case Look:
		s.enough(o, f)
	case Lease:
		s.lend(t, o, f)
	case Return:
		s.giveBack(t, o)
	case Report:
		s.report(o)
		f.total = s.c
	}
	return true
}

func (s *modelBucket) enough(o *operation, f *figures) (d float64, enough bool) {
	d = s.d + o.hits
	if d > o.p2 {
		f.wait = s.wait(o)
		return d, false
	}
	f.status = admitted
	if o.kind == 2 {
		f.delay = max(0, math.Ceil((d-1)/o.p1))
	}
	return d, true
}

func (s *modelBucket) wait(o *operation) float64 {
	if o.hits > o.p2 {
		return never
	}
	w := max(1, math.Ceil((s.d+o.hits-o.p2)/o.p1))
	if s.d-float64(w*o.p1)+o.hits > o.p2 {
		w++
	}
	return w
}

func (s *modelBucket) lend(t *modelTurn, o *operation, f *figures) {
	if late, same := s.lease.late(s.known, o.seq); late {
		if same {
			if f.granted = s.lease.got; f.granted == 0 && o.hits > 0 {
				f.wait = s.wait(o)
			}
		}
		return
	}
	back := min(o.back, s.d)
	if o.seq != 0 {
		back = min(back, s.lease.got)
	}
	s.d -= back
	got := min(o.want, math.Floor(o.p2-s.d))
	if got < o.hits {
		got, f.wait = 0, s.wait(o)
	}
	s.d += got
	if got > 0 || back > 0 {
		s.dirty = true
		if o.seq != 0 {
			s.crowd = s.crowd || !s.known
			s.lease, s.leased, s.known = modelLease{seq: o.seq, got: got}, true, true
		}
	} else {
		s.denied(t, o)
	}
	f.granted = got
}

func (s *modelBucket) report(o *operation) {
	if o.hits > 0 && (o.seq == 0 || s.last != o.seq) {
		s.d, s.c = min(o.p2, s.d+o.hits), min(exact, s.c+o.hits)
		s.dirty, s.counted = true, true
		if o.seq != 0 {
			s.crowd = s.crowd || s.last == 0
			s.last, s.told = o.seq, true
		}
	}
	if o.want > s.d {
		s.d, s.dirty = min(o.p2, o.want), true
	}
}

func (s *modelBucket) giveBack(t *modelTurn, o *operation) {
	if s.d == 0 || o.kind == 2 && o.grant != 0 && t.now+math.Ceil(s.d/o.p1) > o.grant+1 {
		return
	}
	s.d, s.dirty = max(0, s.d-o.hits), true
}
