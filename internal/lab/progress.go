package lab

import (
	"context"
	"sync"
)

// progress wakes those who wait for a counter to move. The zero value is ready.
type progress struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
}

func (p *progress) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// await returns nil once reached does, and the cause of ctx if that ends first.
func (p *progress) await(ctx context.Context, reached func() bool) error {
	for {
		changed := p.subscribe() // before the look, so that no change falls between
		if reached() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *progress) subscribe() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}
