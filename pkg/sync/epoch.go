package ratesync

import "time"

// EpochRest is how old an epoch has to be before nodes grant from the store: time for the others to report what they hold. A
// node that never missed the store hears of the loss by its next heartbeat, which is sent half a second after the
// last; the rest is for its report. After an outage probes find the store within half a second, so that limits are shared again
// within two seconds even so.
const EpochRest = 700 * time.Millisecond

// Epoch is a node's view of the store's data. The store makes a new epoch when it has none: what it knew is lost, and its
// buckets are full ones that should not be. A node then grants nothing from the store until it has reported its debts, and
// the others had time to report theirs.
type Epoch struct {
	id       string // "": none was seen yet
	reported bool
	from     time.Time // when it is EpochRest old
}

// Saw takes up which epoch the store had, and how old it was, no later than now; it tells whether it is new to this node.
func (e *Epoch) Saw(id string, age time.Duration, now time.Time) (news bool) {
	if news = id != e.id; news {
		e.id, e.reported = id, false
	}
	e.from = now.Add(max(0, EpochRest-age))
	if age >= EpochRest {
		e.from = time.Time{} // it was so before now
	}
	return news
}

// Report notes that all debts were reported in an epoch, which may be over by now.
func (e *Epoch) Report(id string) {
	if id == e.id && id != "" {
		e.reported = true
	}
}

// Granting tells whether the node may grant from the store.
func (e *Epoch) Granting(now time.Time) bool {
	return e.id != "" && e.reported && !now.Before(e.from)
}
