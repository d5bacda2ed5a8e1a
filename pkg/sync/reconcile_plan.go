package ratesync

import (
	"math"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// classCount is how many classes of weight there are: 8 to each power of two. Counting them takes one pass, where sorting
// all that is tracked would take most of a round.
const classCount = 1 << 11

func classOf(t bucket.Ticks) uint16 { return uint16(math.Float32bits(float32(t)) >> 20) }

// Plan begins a round: it reads what tracked sources used, and returns the reports to be made, of the heaviest, whose order
// is that of the replies which Apply wants. They are valid until the next call.
func (r *Reconciler[S]) Plan(now bucket.Ticks, nodes int) []Op {
	r.begin(now, nodes)
	r.away = false
	r.classes = [classCount]uint32{}
	for i := 0; i < len(r.sources); {
		t := &r.sources[i]
		tat, found := r.read(t, now)
		if r.done(t, tat, found, now) {
			r.drop(i)
			continue
		}
		if r.lost && t.owed() > 0 {
			t.flags |= isRestoring
		}
		t.quiet = min(t.quiet+1, math.MaxUint8-1)
		t.idle = min(t.idle+1, math.MaxUint8-1) // until it is used
		if t.class = t.due(r); t.class > 0 {
			r.classes[t.class]++
			r.prolong(t, now)
		} else if found {
			r.merge(t, tat, now)
		}
		i++
	}
	r.lost = false
	r.choose()
	return r.ops
}

func (r *Reconciler[S]) begin(now bucket.Ticks, nodes int) {
	r.planned, r.nodes = now, max(1, nodes)
	r.round++
	r.ops, r.planOf = r.ops[:0], r.planOf[:0]
	if r.refused > 0 {
		r.shed(now)
		r.refused = 0
	}
}

// read brings what is known of a source up to what its entry says at now.
func (r *Reconciler[S]) read(t *tracked[S], now bucket.Ticks) (tat bucket.Ticks, found bool) {
	used, tat, found := r.table.Use(t.src.At)
	l := &t.src.Policy.Bucket
	if t.flags&isRead == 0 {
		// What it used before anybody looked is what it still owes.
		t.flags |= isRead
		t.at, t.heard, t.used, t.quiet = now, now, used, quietRounds
		if found {
			t.balance = int64(min(bucket.Debt(tat, now), l.Depth))
			t.spent = max(t.spent, tokensIn(l, t.owed()))
		}
		if r.away {
			t.flags |= isRestoring
			t.spent = 0
		}
		return tat, found
	}
	elapsed := bucket.Debt(now, t.at) // 0 if now is no later
	if elapsed > max(stale*r.interval, l.Depth) && !r.away {
		r.resume(t, used, tat, found, now)
		return tat, found
	}
	t.at = now
	t.balance = max(min(t.balance, int64(r.most(t)))-int64(elapsed), -int64(r.credit(t, now)))
	if !found {
		t.used, t.spare = 0, 0
		return tat, false
	}
	if bucket.Debt(tat, now) == 0 {
		t.spare = 0
	}
	tokens := t.usedSince(used, elapsed)
	if tokens > 0 {
		t.idle = 0
		t.flags &^= isLucky
	}
	t.spent += tokens
	if elapsed > stale*r.interval || t.quiet > quietRounds+stale {
		// What has been made up for since is nobody's business any more.
		t.spent = min(t.spent, tokensIn(l, min(bucket.Debt(tat, now), l.Depth)+lag*r.interval))
	}
	cost := costOf(l, tokens)
	if r.away && t.src.Policy.Share {
		cost = r.times(cost) // as if the others did the same
	}
	t.balance += int64(cost)
	return tat, true
}

// resume takes up a source whose bucket would have filled since it was last read: this process was paused. What all used
// in that time has been made up for in it, but for what this node's bucket still owes. If it were charged now, the others,
// who have long heard of theirs and leave nothing of the limit, would keep this node from ever paying it back.
func (r *Reconciler[S]) resume(t *tracked[S], used uint32, tat bucket.Ticks, found bool, now bucket.Ticks) {
	l := &t.src.Policy.Bucket
	t.at, t.heard, t.used = now, now, used
	t.flags = t.flags&^(isPending|isKnown|isElsewhere|isLucky) | isRestoring
	t.sent, t.spent, t.spare, t.balance = 0, 0, 0, 0
	t.own, t.else_, t.others = 0, 0, 0
	if found {
		t.idle = 0
		t.balance = int64(min(bucket.Debt(tat, now), l.Depth))
	}
}

// credit is how far a debt may fall below nothing until the others' use is heard, which was made meanwhile. Without it a
// bucket that fills in less than two intervals would be charged for use that it has long made up for. One that takes
// longer is charged in full: so what was used at once is paid back.
func (r *Reconciler[S]) credit(t *tracked[S], now bucket.Ticks) bucket.Ticks {
	return min(r.mostCredit(t), bucket.Debt(now, t.heard))
}

func (r *Reconciler[S]) mostCredit(t *tracked[S]) bucket.Ticks {
	return lag*r.interval - min(lag*r.interval, t.src.Policy.Bucket.Depth)
}

// most is how much can be owed: more cannot have been admitted before all nodes heard of it, [ReconciledBound]. While the
// store is away, and nobody is heard, a burst.
func (r *Reconciler[S]) most(t *tracked[S]) bucket.Ticks {
	if r.away {
		return t.src.Policy.Bucket.Depth
	}
	return r.times(t.src.Policy.Bucket.Depth + lag*r.interval)
}

func (r *Reconciler[S]) times(t bucket.Ticks) bucket.Ticks {
	if t > owedMax/bucket.Ticks(r.nodes) {
		return owedMax
	}
	return t * bucket.Ticks(r.nodes)
}

// usedSince is how many tokens were used since the entry was last read, given what it counts now. An entry that counts less
// is another one, claimed since, whose use began at 0, or one from which a packet was taken back that another policy
// denied: then the difference is a few packets, and stays to be made up for.
func (t *tracked[S]) usedSince(used uint32, elapsed bucket.Ticks) uint64 {
	p := t.src.Policy
	most := p.Limit.Burst + p.Limit.Burst/8 + tokensIn(&p.Bucket, min(elapsed, owedMax)) + 16*p.Quantum
	if ahead := uint64(used - t.used); ahead <= most {
		t.used = used
		return ahead
	}
	if back := uint64(t.used - used); back <= 16*p.Quantum {
		return 0
	}
	t.used = used
	return min(uint64(used), most)
}

// done tells that nothing has to be remembered of a source: nothing is owed, it has not been used for some rounds, nor
// elsewhere when the store last answered, and there is nothing to tell; or there is more than can be told.
func (r *Reconciler[S]) done(t *tracked[S], tat bucket.Ticks, found bool, now bucket.Ticks) bool {
	return t.balance <= 0 && t.idle >= quietRounds/2 && t.flags&(isPending|isElsewhere) == 0 &&
		(!found || bucket.Debt(tat, now) == 0) && (t.spent == 0 || r.stats.Deferred > 0)
}

// fair is a node's part of what the limit admits in a round.
func (r *Reconciler[S]) fair() bucket.Ticks { return r.interval / bucket.Ticks(r.nodes) }

// prolong reserves for the others until the next round, as nothing says that the answer comes, nor that the source will
// be among those that are asked for.
func (r *Reconciler[S]) prolong(t *tracked[S], now bucket.Ticks) {
	by := min(bucket.Ticks((1-r.weight(t))*float64(r.interval)), t.others)
	_, tat, found := r.table.Use(t.src.At)
	if !found || by == 0 {
		return
	}
	if debt, most := bucket.Debt(tat, now), t.src.Policy.Bucket.Depth+r.interval; debt+by > most {
		by = most - min(most, debt)
	}
	r.adjust(t, now, int64(by))
}

// adjust moves the source's TAT, but takes away no more than what was put there.
func (r *Reconciler[S]) adjust(t *tracked[S], now bucket.Ticks, by int64) {
	by = max(by, -int64(t.spare))
	if by != 0 {
		by, _ = r.table.Adjust(t.src.At, now, by)
		t.spare = bucket.Ticks(int64(t.spare) + by)
	}
}

// due is the weight of what there is to tell or to ask, 0 if nothing. A node's part of the limit is not told until it is
// used: if every node stays below, so does the sum.
func (t *tracked[S]) due(r *Reconciler[S]) uint16 {
	cost := costOf(&t.src.Policy.Bucket, t.spent)
	switch {
	case t.flags&isRestoring != 0:
		return max(1, classOf(t.owed()))
	case t.flags&isPending != 0:
		return max(1, classOf(cost+costOf(&t.src.Policy.Bucket, t.sent)))
	case t.spent > 0 && (cost >= r.fair() || t.flags&isKnown == 0 || t.quiet >= quietRounds):
		return max(1, classOf(cost))
	case t.flags&isCurious != 0, t.quiet >= r.patience(t):
		return 1
	}
	return 0
}

// patience is after how many rounds without a report a source is asked for: more often if its bucket fills soon.
func (r *Reconciler[S]) patience(t *tracked[S]) uint8 {
	return uint8(max(2, min(quietRounds, t.src.Policy.Bucket.Depth/(4*r.interval))))
}

// choose plans the reports of the heaviest. Of those that are equal the place to start moves on from round to round.
func (r *Reconciler[S]) choose() {
	least, rest := classCount, r.c.Reports
	for least > 1 && rest > 0 {
		least--
		if n := int(r.classes[least]); n > rest {
			break
		} else {
			rest -= n
			r.classes[least] = 0 // all of them
		}
	}
	exact := r.classes[min(least, classCount-1)] > 0
	r.stats.Deferred = 0
	n := len(r.sources)
	start := 0
	if n > 0 {
		start = int(r.round*0x9e3779b1) & math.MaxInt32 % n
	}
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		t := &r.sources[i]
		switch class := int(t.class); {
		case class == 0:
			continue
		case class < least, class == least && exact && rest == 0:
			if t.spent > 0 {
				r.stats.Deferred++
			}
			continue
		case class == least && exact:
			rest--
		}
		r.report(t, int32(i))
	}
	r.stats.Reports += uint64(len(r.ops))
}

// report plans one. One that was not answered is made again as it was, so that the store can tell: what was used since
// waits.
func (r *Reconciler[S]) report(t *tracked[S], i int32) {
	if t.flags&isPending == 0 {
		t.flags |= isPending
		t.sent, t.spent = t.spent, 0
		t.seq = r.nextSeq()
	}
	op := Op{Verb: Report, ID: t.src.ID, Limit: &t.src.Policy.Limit, Hits: t.sent, Seq: t.seq}
	if t.flags&isRestoring != 0 {
		op.Want = min(tokensIn(&t.src.Policy.Bucket, t.owed()), t.src.Policy.Limit.Burst)
	}
	t.quiet = 0
	t.flags &^= isCurious
	if t.sent > 0 {
		t.flags |= isCurious
	}
	r.ops = append(r.ops, op)
	r.planOf = append(r.planOf, i)
}

// nextSeq counts reports of all sources, so that a source that was dropped and comes back repeats none.
func (r *Reconciler[S]) nextSeq() uint32 {
	if r.seq++; r.seq == 0 {
		r.seq++
	}
	return r.seq
}

// shed makes room for an eighth of what can be tracked, by forgetting those who owe least: a flood of sources that come
// once drives out one another, and nobody who is busy.
func (r *Reconciler[S]) shed(now bucket.Ticks) {
	r.classes = [classCount]uint32{}
	for i := range r.sources {
		t := &r.sources[i]
		t.class = classOf(t.owed() - min(t.owed(), bucket.Debt(now, t.at)))
		r.classes[t.class]++
	}
	room := max(1, r.c.Sources/8) - (r.c.Sources - len(r.sources))
	most := 0
	for n := 0; most < classCount-1; most++ {
		if n += int(r.classes[most]); n >= room {
			break
		}
	}
	for i := 0; i < len(r.sources) && room > 0; {
		if t := &r.sources[i]; int(t.class) > most || t.flags&isPending != 0 {
			i++
			continue
		}
		r.drop(i)
		r.stats.Shed++
		room--
	}
}
