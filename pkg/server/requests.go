package server

import (
	"context"
	"net/http"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// Checker decides over requests. Its methods may be called by many goroutines at once.
type Checker interface {
	// Check decides over one query. An error that is a [limiter.ErrQuery] is the client's fault, and any
	// other the checker's own.
	Check(ctx context.Context, q limiter.Query) (limiter.Result, error)
	// LeaseToken is what ReleaseToken ends a result with; empty if it holds nothing.
	LeaseToken(r *limiter.Result) string
	// ReleaseToken ends what a token stands for. As Check, if there is no such thing.
	ReleaseToken(token string) error
}

// Identity reads from a request to /v1/auth, which a proxy asks in the place of one that it received, what is
// known of the latter. It is called by many goroutines at once. Its errors are the request's fault.
type Identity interface {
	ForwardAuth(r *http.Request) (limiter.RequestContext, error)
}

// Figures tells how the limiter does. Its methods may be called by several goroutines at once.
type Figures interface {
	Health(ctx context.Context) limiter.Health
	// Counters are the statistics without how full the table is.
	Counters() limiter.Stats
	// Stats are all of them. They may be expensive: they are asked for once at a time.
	Stats(ctx context.Context) limiter.Stats
}

// Buckets shows and fills single buckets of policies of layer l7, by the key that their scope makes. Its
// methods may be called by several goroutines at once. They fail with [limiter.ErrUnknownPolicy] or
// [limiter.ErrQuery]; an error that is a [Problem] is answered as it is.
type Buckets interface {
	Bucket(policyName, key string) (limiter.BucketState, error)
	ResetBucket(policyName, key string) error
}

var (
	_ Checker = (*limiter.Limiter)(nil)
	_ Figures = (*limiter.Limiter)(nil)
	_ Buckets = (*limiter.Limiter)(nil)
)
