package top

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/topk"
)

// sources is how many sources each ranking keeps: all that make up more than a thousandth of it.
const sources = 1024

// Listener is where the events come from.
type Listener interface {
	// Run calls handle with each event until ctx ends. It may be called again when it has returned.
	Run(ctx context.Context, handle func(loader.Event)) error
	// Lost is how many events came and could not be used.
	Lost() uint64
}

var _ Listener = (*loader.Events)(nil)

// Options are what a [Top] works with.
type Options struct {
	Listener Listener
	// Attachments reads what is attached: the names, and the exact counts. It is called every second
	// while events are listened to.
	Attachments func() ([]loader.Attachment, error)
	// Now is the clock that the events have.
	Now func() time.Duration
	// Idle is after how long without a report listening ends, and with it the programs' work for it; the
	// next report begins it anew. 0: as long as Run runs.
	Idle time.Duration
	// Every is the period of reading what is attached; 0: a second.
	Every time.Duration
}

// Top ranks the sources. Its methods may be called by several goroutines at once.
type Top struct {
	options Options
	asked   chan struct{} // a report was made; holds one

	mu         sync.Mutex
	listening  bool
	started    time.Duration // when listening began
	askedAt    time.Duration
	lostBefore uint64 // when listening began
	rankings   map[By]*ranking
	total      series
	kernel     kernel
}

// New makes a Top that knows nothing until Run runs.
func New(o Options) *Top {
	if o.Every <= 0 {
		o.Every = time.Second
	}
	t := &Top{options: o, asked: make(chan struct{}, 1), rankings: map[By]*ranking{}}
	for _, by := range []By{ByPassed, ByDropped, ByBytes} {
		t.rankings[by] = topk.New[netip.Addr, source](sources, halfLife)
	}
	return t
}

// Run listens until ctx ends. It returns nil unless the events can't be read.
func (t *Top) Run(ctx context.Context) error {
	for t.awaitAsked(ctx) {
		if err := t.listen(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awaitAsked waits until somebody wants to know; false if ctx ends before.
func (t *Top) awaitAsked(ctx context.Context) bool {
	if t.options.Idle <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-t.asked:
		return ctx.Err() == nil
	}
}

// listen listens until ctx ends or nobody wants to know any more.
func (t *Top) listen(ctx context.Context) error {
	t.begin()
	defer t.end()
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Go(func() error {
		defer cancel()
		return t.options.Listener.Run(ctx, t.add)
	})
	g.Go(func() error {
		defer cancel()
		t.watch(ctx)
		return nil
	})
	return g.Wait()
}

func (t *Top) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listening, t.started = true, t.options.Now()
	t.askedAt = t.started
	t.lostBefore = t.options.Listener.Lost()
	t.kernel = kernel{}
}

func (t *Top) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listening = false
}

// watch reads what is attached, until ctx ends or there was no report for too long.
func (t *Top) watch(ctx context.Context) {
	ticker := time.NewTicker(t.options.Every)
	defer ticker.Stop()
	for !t.idle() {
		all, err := t.options.Attachments()
		t.learn(all, err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (t *Top) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.options.Idle > 0 && t.options.Now()-t.askedAt > t.options.Idle
}

func (t *Top) learn(all []loader.Attachment, err error) {
	now := t.options.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kernel.learn(now, all, err)
}

// add takes one event into account.
func (t *Top) add(e loader.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.count(&e)
	for by, r := range t.rankings {
		charge(r, by, &e)
	}
}
