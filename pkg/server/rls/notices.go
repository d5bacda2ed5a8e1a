package rls

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxUnknown bounds how many domains that are not known are told of: their names are the clients'.
const maxUnknown = 64

// unknownDomains counts requests of domains that have no limits, and logs each such domain once.
type unknownDomains struct {
	total atomic.Uint64

	mu     sync.Mutex // of logged; only requests that nothing decides over take it
	logged map[string]bool
}

func (u *unknownDomains) add(domain string, log *slog.Logger) {
	u.total.Add(1)
	if !u.first(domain) {
		return
	}
	const longest = 100
	log.Warn("requests of a domain without limits pass", "domain", strings.ToValidUTF8(domain[:min(len(domain), longest)], ""))
}

func (u *unknownDomains) first(domain string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.logged[domain] || len(u.logged) >= maxUnknown {
		return false
	}
	if u.logged == nil {
		u.logged = map[string]bool{}
	}
	u.logged[domain] = true
	return true
}

// rarely is due once a second at most.
type rarely struct{ last atomic.Int64 }

func (r *rarely) due() bool {
	now, last := time.Now().Unix(), r.last.Load()
	return now != last && r.last.CompareAndSwap(last, now)
}
