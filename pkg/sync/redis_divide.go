package ratesync

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// bucketName is what tells buckets apart: a policy that changes its algorithm begins anew.
type bucketName struct {
	family family
	id     ID
}

// share is a script call in the making: operations of one shard.
type share struct {
	mask  family
	ops   []int
	names []bucketName
	keys  map[bucketName]int // for more than a few
}

func (s *share) key(n bucketName) int {
	if s.keys == nil {
		for i := range s.names {
			if s.names[i] == n {
				return i
			}
		}
		if len(s.names) < 16 {
			s.names = append(s.names, n)
			return len(s.names) - 1
		}
		s.keys = make(map[bucketName]int, maxKeys)
		for i, n := range s.names {
			s.keys[n] = i
		}
	}
	i, known := s.keys[n]
	if !known {
		i = len(s.names)
		s.keys[n], s.names = i, append(s.names, n)
	}
	return i
}

// divide puts operations into script calls: as few as there may be, in a cluster one for each shard. A group whose
// operations follow one another is not cut in two if it fits into one.
func (r *Redis) divide(ctx context.Context, node string, ops []Op, prepared []operation) []scriptCall {
	var (
		full   []*share
		shares map[byte]*share
		single = new(share)
	)
	if r.cluster {
		shares = make(map[byte]*share)
	}
	for at := 0; at < len(prepared); {
		if prepared[at].kind == 0 {
			at++
			continue
		}
		s, end := single, groupEnd(prepared, at)
		if r.cluster {
			end = at + 1 // a group of several shards is cut anyway, and one of a shard is small
			if s = shares[ops[at].ID[0]]; s == nil {
				s = new(share)
				shares[ops[at].ID[0]] = s
			}
		}
		n := end - at
		if len(s.ops) != 0 && (len(s.names)+n > maxKeys || len(s.ops)+n > maxOps) {
			done := *s
			full = append(full, &done)
			*s = share{}
		}
		for ; at < end && len(s.names) < maxKeys && len(s.ops) < maxOps; at++ {
			o := &prepared[at]
			if o.kind == 0 {
				continue
			}
			o.key = s.key(bucketName{o.family, ops[at].ID})
			s.mask |= o.family
			s.ops = append(s.ops, at)
		}
	}
	if len(single.ops) != 0 {
		full = append(full, single)
	}
	for _, s := range shares {
		full = append(full, s)
	}
	calls := make([]scriptCall, len(full))
	for i, s := range full {
		calls[i] = r.call(ctx, node, ops, prepared, s)
	}
	return calls
}

// groupEnd is where the operations of a group end that follow one another from at.
func groupEnd(prepared []operation, at int) int {
	first := &prepared[at]
	end := at + 1
	if first.verb != Take || first.group == 0 {
		return end
	}
	for end < len(prepared) && (prepared[end].kind == 0 || prepared[end].verb == Take && prepared[end].group == first.group) {
		end++
	}
	return end
}

func (r *Redis) call(ctx context.Context, node string, ops []Op, prepared []operation, s *share) scriptCall {
	if len(s.ops) == 1 {
		if o := &prepared[s.ops[0]]; o.verb == Take && o.kind == 1 {
			return r.take(ctx, o, &ops[s.ops[0]].ID, s.ops)
		}
	}
	script := &scripts[s.mask]
	if simple(prepared, s.ops) {
		script = &token
	}
	args := make([]any, 0, 5+len(s.names)+len(s.ops))
	args = append(args, "evalsha", script.sha, strconv.Itoa(len(s.names)))
	for i := range s.names {
		args = append(args, r.key(s.names[i].family, &s.names[i].id))
	}
	now := ""
	if r.clock != nil {
		now = strconv.FormatInt(r.clock(), 10)
	}
	args = append(args, now, node)
	groups := groupNumbers{}
	for _, at := range s.ops {
		o := &prepared[at]
		args = append(args, o.append(make([]byte, 0, 80), groups.number(o)))
	}
	return scriptCall{script: script, keys: len(s.names), ops: s.ops, args: args, cmd: redis.NewIntSliceCmd(ctx, args...)}
}

// simple tells whether operations can be done one after the other by the script of token buckets. Groups whose numbers
// rise have one operation each.
func simple(prepared []operation, ops []int) bool {
	group := math.MinInt
	for _, at := range ops {
		o := &prepared[at]
		switch {
		case o.kind != 1 || o.verb == Reset:
			return false
		case o.verb != Take || o.group == 0:
		case o.group <= group:
			return false
		default:
			group = o.group
		}
	}
	return true
}

// groupNumbers gives the groups of a script call small numbers, from 1.
type groupNumbers struct {
	last, recent int
	all          map[int]int
}

func (g *groupNumbers) number(o *operation) uint16 {
	if o.verb != Take || o.group == 0 {
		return 0
	}
	if g.recent != 0 && g.last == o.group {
		return uint16(g.recent)
	}
	if g.all == nil {
		g.all = make(map[int]int)
	}
	n, known := g.all[o.group]
	if !known {
		n = len(g.all) + 1
		g.all[o.group] = n
	}
	g.last, g.recent = o.group, n
	return uint16(n)
}

// groupPart is what one script call has of a group.
type groupPart struct {
	group int
	takes []int
}

// scattered lists the parts of groups that are in several calls.
func scattered(calls []scriptCall, prepared []operation) (parts []groupPart) {
	if len(calls) < 2 {
		return nil
	}
	times := make(map[int]int) // that a group is in a call
	for c := range calls {
		own := make(map[int]int) // where in parts those of this call are
		for _, at := range calls[c].ops {
			o := &prepared[at]
			if o.verb != Take || o.group == 0 {
				continue
			}
			i, known := own[o.group]
			if !known {
				i = len(parts)
				own[o.group], parts = i, append(parts, groupPart{group: o.group})
				times[o.group]++
			}
			parts[i].takes = append(parts[i].takes, at)
		}
	}
	return slices.DeleteFunc(parts, func(p groupPart) bool { return times[p.group] == 1 })
}

// undo gives back what was taken for groups in several calls of which one denied: an all-or-none of several servers,
// between whose two halves others may be denied, and none admitted that should not be. What can't be given back
// stays taken, and is counted.
func (r *Redis) undo(ctx context.Context, node string, ops []Op, replies []Reply, parts []groupPart) {
	denied := make(map[int]bool)
	for _, p := range parts {
		denied[p.group] = denied[p.group] || !p.taken(replies)
	}
	var back []int
	for _, p := range parts {
		if denied[p.group] && p.taken(replies) {
			back = append(back, p.takes...)
		}
	}
	if len(back) == 0 {
		return
	}
	returns, answers := make([]Op, len(back)), make([]Reply, len(back))
	for i, at := range back {
		o := &ops[at]
		returns[i] = Op{Verb: Return, ID: o.ID, Limit: o.Limit, Hits: o.Hits, Grant: o.Grant}
		if grant := replies[at].Grant; grant != 0 {
			returns[i].Grant = grant
		}
	}
	// Each answer is looked at: the error of all says nothing more.
	_ = r.Do(ctx, node, returns, answers)
	for i, at := range back {
		if answers[i].Err != nil {
			r.kept.Add(1)
			continue
		}
		replies[at].Left, replies[at].Full, replies[at].Grant = answers[i].Left, answers[i].Full, 0
	}
}

// taken tells whether a part was: its call took all of it or none.
func (p *groupPart) taken(replies []Reply) bool {
	for _, at := range p.takes {
		if replies[at].Err != nil || !replies[at].Admitted {
			return false
		}
	}
	return true
}
