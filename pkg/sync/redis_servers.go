package ratesync

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// serverFailures is after how many failures in a row a server of a Redis Cluster is left alone, and serverRest for how long:
	// one call then finds out whether it is back. The others answer meanwhile, so that no breaker sees that one is away, and
	// whoever asked it would wait for the command timeout.
	serverFailures = 3
	serverRest     = time.Second
	// maxAiling bounds the servers that are remembered: a cluster has fewer masters.
	maxAiling = 1024
)

// errResting is why a call was not sent.
var errResting = &Error{Class: ClassRefused, text: "a server of the cluster has failed, and is left alone for a moment"}

// servers are those of a Redis Cluster that failed lately, by their addresses.
type servers struct {
	ailing atomic.Int32 // how many: while there is none nobody looks further
	mu     sync.Mutex
	all    map[string]*ailing
}

type ailing struct {
	failures int
	until    time.Time // it is left alone
}

// admits tells whether a server may be asked now.
func (s *servers) admits(address string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.all[address]
	if a == nil || a.failures < serverFailures {
		return true
	}
	if now.Before(a.until) {
		return false
	}
	a.until = now.Add(serverRest) // who asks for this one is the probe
	return true
}

// told notes what came of a call.
func (s *servers) told(address string, failed bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.all[address]
	switch {
	case !failed:
		delete(s.all, address)
	case a != nil:
		if a.failures++; a.failures >= serverFailures {
			a.until = now.Add(serverRest)
		}
	case len(s.all) < maxAiling:
		if s.all == nil {
			s.all = map[string]*ailing{}
		}
		s.all[address] = &ailing{failures: 1}
	}
	s.ailing.Store(int32(len(s.all)))
}

// rest leaves out the calls to servers that are left alone.
func (r *Redis) rest(ctx context.Context, calls []scriptCall) (rest []scriptCall) {
	if !r.cluster {
		return calls
	}
	for i := range calls {
		calls[i].server = r.serverOf(ctx, &calls[i])
	}
	if r.servers.ailing.Load() == 0 {
		return calls
	}
	turns := map[string]bool{} // all calls of one pipeline are one turn
	for i := range calls {
		c := &calls[i]
		admits, known := turns[c.server]
		if !known {
			admits = r.servers.admits(c.server, time.Now())
			turns[c.server] = admits
		}
		if !admits {
			c.cmd.SetErr(errResting)
			continue
		}
		rest = append(rest, *c)
	}
	return rest
}

// tell notes what came of calls, once for each server: they shared its pipeline.
func (r *Redis) tell(calls []scriptCall) {
	if !r.cluster {
		return
	}
	failed := false
	for i := range calls {
		failed = failed || storeFailed(calls[i].cmd.Err())
	}
	if !failed && r.servers.ailing.Load() == 0 {
		return
	}
	turns := map[string]bool{}
	for i := range calls {
		turns[calls[i].server] = turns[calls[i].server] || storeFailed(calls[i].cmd.Err())
	}
	for server, failed := range turns {
		r.servers.told(server, failed, time.Now())
	}
}

// each does calls in a pipeline for each server, all at once. In one pipeline of all servers the client would hold the failure of
// one against the answers of the others: it tries again what failed, and if there is no time left all have.
func (r *Redis) each(ctx context.Context, calls []scriptCall) {
	slices.SortStableFunc(calls, func(a, b scriptCall) int { return strings.Compare(a.server, b.server) })
	var others sync.WaitGroup
	for len(calls) > 0 {
		n := 1
		for n < len(calls) && calls[n].server == calls[0].server {
			n++
		}
		if n == len(calls) {
			r.together(ctx, calls) // the last, and mostly the only one
		} else {
			part := calls[:n]
			others.Go(func() { r.together(ctx, part) })
		}
		calls = calls[n:]
	}
	others.Wait()
}

// storeFailed tells whether an error is held against a server. A question that somebody called off is not.
func storeFailed(err error) bool { return err != nil && !errors.Is(err, context.Canceled) }

// serverOf is the address of the master that has a call's keys; "" if nobody knows.
func (r *Redis) serverOf(ctx context.Context, c *scriptCall) string {
	cluster, ok := r.client.(*redis.ClusterClient)
	key, isKey := c.args[3].(string)
	if !ok || !isKey {
		return ""
	}
	master, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	return master.Options().Addr
}
