package metrics

import (
	"sync"
	"time"
)

// cached keeps the result of an expensive read for a while. Callers that come during a read wait for
// it and share its result. An error is not kept.
type cached[T any] struct {
	read   func() (T, error)
	now    func() time.Time
	maxAge time.Duration

	mu    sync.Mutex
	value T
	taken time.Time // zero: never
}

func (c *cached[T]) get() (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taken.IsZero() && c.now().Sub(c.taken) < c.maxAge {
		return c.value, nil
	}
	value, err := c.read()
	if err != nil {
		return value, err
	}
	// The age counts from the end of the read: one that takes longer than maxAge must not be
	// followed by the next at once.
	c.value, c.taken = value, c.now()
	return value, nil
}
