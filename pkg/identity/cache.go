package identity

import (
	"crypto/sha256"
	"sync"
)

// generation is how many tokens a generation of a cache has: 4096 are remembered at most.
const generation = 2048

// cache remembers tokens that verified, by their digest, so that a signature is not computed for every
// request. It has two generations: what is asked for moves to the young one, and when that is full the
// old one is forgotten. A lock is taken for reading, which requests do not wait for each other with; a
// token moves once per generation.
type cache struct {
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]claims
}

func (c *cache) get(id [sha256.Size]byte) (claims, bool) {
	c.mu.RLock()
	known, young := c.young[id]
	var old bool
	if !young {
		known, old = c.old[id]
	}
	c.mu.RUnlock()
	if old {
		c.put(id, known)
	}
	return known, young || old
}

func (c *cache) put(id [sha256.Size]byte, known claims) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= generation {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]claims)
	}
	c.young[id] = known
}
