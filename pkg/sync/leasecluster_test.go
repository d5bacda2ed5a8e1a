package ratesync

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// clusterNode is one of a simulated cluster: its leases, and what of it is on its way.
type clusterNode struct {
	*Leases
	name  string
	alive bool
	cut   int // for so many more steps
	beat  time.Duration
	mail  []mail
}

// mail is a call, or its answer, that comes at some time.
type mail struct {
	at       time.Duration
	plan     LeasePlan
	reply    Reply
	answered bool
	hits     uint64
}

// TestCluster: nodes come, go, are cut off, and lose answers; all of them together keep the bound, and waste little.
func TestCluster(t *testing.T) {
	for seed := range uint64(60) {
		runCluster(t, seed)
	}
}

func runCluster(t *testing.T, seed uint64) {
	const step, during = time.Millisecond, 8 * time.Second
	r := rand.New(rand.NewPCG(seed, 3))
	limit := tokenLimit(uint64(200+r.IntN(3000)), time.Second, uint64(100+r.IntN(3000)))
	now := time.Hour
	ticks := func() bucket.Ticks { return bucket.AtNanoseconds(uint64(now)) }
	store := newFakeStore(func() time.Duration { return now })
	heard := map[string]time.Duration{}
	k, rate := keyOf(1), float64(limit.Limit)
	f := &flow{rate: rate}
	var nodes []*clusterNode
	join := func() {
		n := &clusterNode{Leases: NewLeases(LeaseOptions{Entries: ways, Share: DefaultLeaseShare, Seq: r.Uint32()}), alive: true}
		n.name = string(rune('a' + len(nodes)))
		nodes = append(nodes, n)
	}
	for range 2 + r.IntN(4) {
		join()
	}
	for ; now < time.Hour+during; now += step {
		if r.IntN(800) == 0 && len(nodes) < 12 {
			join()
		}
		for _, n := range nodes {
			if !n.alive {
				continue
			}
			switch r.IntN(20_000) {
			case 0:
				n.alive = false
				continue
			case 1, 2, 3:
				n.cut = r.IntN(5000)
			}
			n.cut--
			if n.cut <= 0 && now-n.beat >= time.Second {
				n.beat, heard[n.name] = now, now
				known := 0
				for _, at := range heard {
					if now-at < LeaseLife {
						known++
					}
				}
				n.SetNodes(known)
				n.SetBeat(ticks())
			}
			terms := termsOf(t, n.Leases, limit)
			n.deliver(store, ticks(), now, f, r)
			for range r.IntN(2 + int(2*rate*step.Seconds())) {
				n.want(terms, k, ticks(), now, f, r)
			}
		}
	}
	most := (1+DefaultLeaseShare)*float64(limit.Burst) + rate*0.01 + 1
	if f.highest > most {
		t.Errorf("seed %d: %.0f at once, and %.0f may be (%d nodes, %+v)", seed, f.highest, most, len(nodes), limit)
	}
	if usable := float64(f.admitted) / (float64(limit.Burst) + rate*during.Seconds()); usable < 0.85 {
		t.Errorf("seed %d: %.2f of the limit was used (%d nodes, %+v)", seed, usable, len(nodes), limit)
	}
}

// want is one request for a hit.
func (n *clusterNode) want(terms *Terms, k limiter.Key, at bucket.Ticks, now time.Duration, f *flow, r *rand.Rand) {
	o, a, low := n.Take(terms, k, at, 1)
	hits := uint64(1)
	switch {
	case a == limiter.Decided && o.Admitted:
		f.admit(now, 1)
		if hits = 0; !low {
			return
		}
	case a == limiter.Decided:
		return
	}
	p, ok := n.Plan(terms, k, at, hits, hits)
	if !ok { // as a newcomer, or beside a lease that is on its way
		if hits > 0 && !n.Splits(terms, at, 1) {
			p = LeasePlan{Op: Op{Verb: Take, ID: k.ID, Limit: &terms.limit, Hits: 1}}
		} else {
			return
		}
	}
	n.mail = append(n.mail, mail{at: now + time.Duration(r.IntN(3))*time.Millisecond, plan: p, hits: hits})
}

// deliver brings calls to the store and answers home, some of them never.
func (n *clusterNode) deliver(store *fakeStore, at bucket.Ticks, now time.Duration, f *flow, r *rand.Rand) {
	for i := 0; i < len(n.mail); i++ {
		m := &n.mail[i]
		if m.at > now {
			continue
		}
		lost := n.cut > 0 || r.IntN(100) == 0
		switch {
		case !m.answered && !lost:
			replies := make([]Reply, 1)
			store.do(n.name, []Op{m.plan.Op}, replies)
			m.reply, m.answered, m.at = replies[0], true, now+time.Duration(r.IntN(3))*time.Millisecond
			continue
		case m.plan.Op.Verb == Take:
			if !lost && m.reply.Admitted {
				f.admit(now, 1)
			}
		case lost:
			n.Apply(&m.plan, Reply{}, errLost, at)
		default:
			back := n.Apply(&m.plan, m.reply, nil, at)
			if o, a, _ := n.Take(m.plan.terms, keyOf(1), at, max(m.hits, 1)); m.hits > 0 && a == limiter.Decided && o.Admitted {
				f.admit(now, m.hits)
			} else if m.hits == 0 && o.Admitted {
				f.admit(now, 1)
			}
			_ = back // lost on its way: less is admitted
		}
		n.mail = slices.Delete(n.mail, i, i+1)
		i--
	}
}
