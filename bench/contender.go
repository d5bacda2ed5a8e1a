package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	sethvargo "github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	ulule "github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"
	"golang.org/x/time/rate"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// What every contender grants to each key.
const (
	limitPerKey = 1000
	window      = time.Second
)

// check decides over the key of an index, for one of several workers.
type check func(w *worker, i int) (allowed bool, err error)

// contender is somebody who decides. It must be safe for concurrent use by several workers.
type contender struct {
	name  string
	check check
}

// worker is what one goroutine has of its own.
type worker struct {
	random
	name    [len("user:00000000")]byte
	request limiter.RequestContext
}

func newWorker(seed int) *worker {
	w := &worker{random: *newRandom(seed), request: limiter.RequestContext{Method: "GET", Endpoint: "/api/v2/pipelines"}}
	copy(w.name[:], "user:")
	w.request.UserID = unsafe.String(&w.name[0], len(w.name))
	return w
}

// ask makes the request of an index, as whoever parses one has just done. The limiter keeps nothing of it.
func (w *worker) ask(i int) *limiter.RequestContext {
	w.request.ClientIP = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	for at := len(w.name) - 1; at >= len("user:"); at-- {
		w.name[at] = 'a' + byte(i&15)
		i >>= 4
	}
	return &w.request
}

// The contenders' names.
const (
	nameWeir      = "weir CheckRateLimit"
	nameWeir1     = "weir, 1 policy"
	nameWeir3     = "weir, 3 policies"
	nameXTime     = "x/time/rate in a map"
	nameThrottled = "throttled/throttled"
	nameUlule     = "ulule/limiter"
	nameSethvargo = "sethvargo/go-limiter"
)

// newContender makes the contender of a name, with nothing in it.
func newContender(name string, k *keys) (*contender, error) {
	make := map[string]func(*keys) (check, error){
		nameWeir:      newWeir,
		nameWeir1:     func(*keys) (check, error) { return newWeirPolicies(1) },
		nameWeir3:     func(*keys) (check, error) { return newWeirPolicies(3) },
		nameXTime:     newXTime,
		nameThrottled: newThrottled,
		nameUlule:     newUlule,
		nameSethvargo: newSethvargo,
	}[name]
	check, err := make(k)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &contender{name, check}, nil
}

// keys are whom the contenders limit. Libraries may keep a name, so that each has its own.
type keys struct{ names []string }

func newKeys(n int) *keys {
	k := &keys{names: make([]string, n)}
	for i := range n {
		k.names[i] = fmt.Sprintf("user:%08d", i)
	}
	return k
}

// weirEntries is room for two buckets a key of a million.
const weirEntries = 1 << 21

func newWeir(k *keys) (check, error) {
	l, err := limiter.New(limiter.Options{Entries: weirEntries})
	return func(_ *worker, i int) (bool, error) {
		r, err := l.CheckRateLimit(context.Background(), k.names[i], limitPerKey, window)
		return r.Allowed, err
	}, err
}

func newWeirPolicies(n int) (check, error) {
	l, err := limiter.New(limiter.Options{Entries: weirEntries})
	if err != nil {
		return nil, err
	}
	all := []policy.Policy{
		{Name: "per-user", Scope: policy.ScopePerUser, Limit: limitPerKey, Window: window},
		{Name: "per-address", Scope: policy.ScopePerIP, Layer: policy.LayerL7, Limit: limitPerKey, Window: window},
		{Name: "per-endpoint", Scope: policy.ScopePerEndpoint, Limit: 100_000_000, Window: window, Match: policy.Match{Endpoints: []string{"/api/*"}}},
	}
	var doc policy.Document
	for _, p := range all[:n] {
		doc.Policies = append(doc.Policies, p.WithDefaults())
	}
	return func(w *worker, i int) (bool, error) {
		r, err := l.CheckRequest(context.Background(), "", w.ask(i))
		return r.Allowed, err
	}, l.Replace(doc)
}

// newXTime is what its documentation leads people to: one limiter for each key, in a map with a lock. It
// never forgets a key.
func newXTime(k *keys) (check, error) {
	var mu sync.RWMutex
	all := map[string]*rate.Limiter{}
	return func(_ *worker, i int) (bool, error) {
		mu.RLock()
		l := all[k.names[i]]
		mu.RUnlock()
		if l == nil {
			mu.Lock()
			if l = all[k.names[i]]; l == nil {
				l = rate.NewLimiter(limitPerKey, limitPerKey)
				all[k.names[i]] = l
			}
			mu.Unlock()
		}
		return l.Allow(), nil
	}, nil
}

func newThrottled(k *keys) (check, error) {
	store, err := memstore.NewCtx(0)
	if err != nil {
		return nil, err
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{MaxRate: throttled.PerSec(limitPerKey), MaxBurst: limitPerKey - 1})
	return func(_ *worker, i int) (bool, error) {
		// It gives up, with an error, when ten swaps of one key were lost: whoever asks is told no either way.
		limited, _, err := l.RateLimitCtx(context.Background(), k.names[i], 1)
		return !limited && err == nil, nil
	}, err
}

func newUlule(k *keys) (check, error) {
	l := ulule.New(memory.NewStore(), ulule.Rate{Period: window, Limit: limitPerKey})
	return func(_ *worker, i int) (bool, error) {
		c, err := l.Get(context.Background(), k.names[i])
		return !c.Reached, err
	}, nil
}

func newSethvargo(k *keys) (check, error) {
	store, err := memorystore.New(&memorystore.Config{Tokens: limitPerKey, Interval: window})
	var _ sethvargo.Store = store
	return func(_ *worker, i int) (bool, error) {
		_, _, _, ok, err := store.Take(context.Background(), k.names[i])
		return ok, err
	}, err
}
