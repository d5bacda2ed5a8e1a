package simulation

import (
	"errors"

	"github.com/weir-limiter/weir/pkg/limiter"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

var errUnanswered = errors.New("no answer came in time")

// ready tells whether the store may be asked.
func (n *Leaser) ready() bool { return !n.away && n.epoch.Granting(n.instant()) }

// take spends a token that the node holds.
func (n *Leaser) take(source int) limiter.Answer {
	o, a, low := n.leases.Take(n.terms[source], n.keys[source], n.clock(), 1)
	if a == limiter.Decided && o.Admitted {
		n.cluster.Meters[source].Admit(1)
	}
	if low && n.ready() && n.flights[source] == nil {
		n.lease(source, &flight{})
	}
	if a == limiter.Decided && !o.Admitted {
		return denied
	}
	return a
}

// denied is what take answers if the store need not be asked.
const denied = limiter.Away

// decide decides a request for one token.
func (n *Leaser) decide(source int) {
	n.cluster.Decided++
	if n.take(source) != limiter.Ask || !n.ready() {
		return
	}
	if f := n.flights[source]; f != nil {
		f.waiting = min(f.waiting+1, mostWaiting)
		return
	}
	n.ask(source, &flight{waiting: 1})
}

// ask asks for those who wait: for a lease if there may be one, else for a token each.
func (n *Leaser) ask(source int, f *flight) {
	if f.rounds < leaseRounds && n.leases.Splits(n.terms[source], n.clock(), 1) {
		n.lease(source, f)
		return
	}
	ops := make([]ratesync.Op, f.waiting)
	for i := range ops {
		ops[i] = ratesync.Op{Verb: ratesync.Take, ID: n.keys[source].ID, Limit: n.terms[source].Limit(), Hits: 1}
	}
	asked := n.cluster.Now
	n.send(ops, n.cluster.Timeout, func(answered bool, replies []ratesync.Reply) {
		n.called(answered)
		if !answered || n.cluster.Now-asked > n.cluster.Timeout {
			return // nobody waits any more: the tokens are gone
		}
		for _, r := range replies {
			if r.Admitted {
				n.cluster.Meters[source].Admit(1)
			}
			n.leases.Note(n.terms[source], n.keys[source], n.clock(), r)
		}
	})
}

// lease asks for one, and lets those who wait take of it.
func (n *Leaser) lease(source int, f *flight) {
	f.rounds++
	n.flights[source] = f
	p, ok := n.leases.Plan(n.terms[source], n.keys[source], n.clock(), uint64(min(f.waiting, 1)), uint64(f.waiting))
	if !ok {
		n.land(source, f)
		return
	}
	op := p.Op
	if n.cluster.Mutation == Numberless {
		op.Seq = 0
	}
	n.send([]ratesync.Op{op}, n.cluster.Timeout, func(answered bool, replies []ratesync.Reply) {
		n.called(answered)
		var r ratesync.Reply
		err := errUnanswered
		if answered {
			r, err = replies[0], nil
		} else if f.waiting = 0; n.cluster.Mutation == Hopeful {
			r, err = ratesync.Reply{Granted: p.Op.Want}, nil
		}
		if back := n.leases.Apply(&p, r, err, n.clock()); back > 0 {
			n.giveBack(source, back)
		}
		n.land(source, f)
	})
}

// land ends a flight: who waited looks at what there is.
func (n *Leaser) land(source int, f *flight) {
	n.flights[source] = nil
	for ; f.waiting > 0; f.waiting-- {
		switch n.take(source) {
		case denied:
			f.waiting = 0
			return
		case limiter.Ask:
			if other := n.flights[source]; other != nil { // take has begun a refill
				other.waiting = min(other.waiting+f.waiting, mostWaiting)
			} else if n.ready() {
				n.ask(source, f)
			}
			return
		}
	}
}

func (n *Leaser) giveBack(source int, hits uint64) {
	op := ratesync.Op{Verb: ratesync.Return, ID: n.keys[source].ID, Limit: n.terms[source].Limit(), Hits: hits}
	n.send([]ratesync.Op{op}, n.cluster.Timeout, func(bool, []ratesync.Reply) {})
}
