package grpclimit

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
)

// Options says how the interceptors limit. The zero value is usable.
type Options struct {
	// Extract says who calls what; fullMethod is "/package.Service/Method". The client gets to read its
	// error: name no secret in it. Nil: the address of the peer, method POST, and fullMethod as the
	// endpoint. Behind a proxy that address is the proxy's, so bring your own.
	Extract func(ctx context.Context, fullMethod string) (key string, rc limiter.RequestContext, err error)
	// Hits is what a call costs, or a message of a stream; nil: 1. A call of 0 hits is charged nothing, and
	// denied as one of 1 would be.
	Hits func(ctx context.Context, fullMethod string) uint64
	// PerMessage asks for every message that a stream receives after its first, which is paid for with
	// the stream. A stream whose message is denied gets the error where it receives. What the stream holds
	// of a policy of algorithm concurrency goes over to the message, and may be lost to another then.
	PerMessage bool
	// Dialect says which headers are sent.
	Dialect middleware.Dialect
	// FailClosed refuses a call, with status UNAVAILABLE, if the limiter fails. Else it goes on, with no
	// limit and no headers.
	FailClosed bool
	// OnFailure is told of every failure of the limiter, whatever becomes of the call. Nil: nobody is.
	OnFailure func(ctx context.Context, fullMethod string, err error)
	// Skip tells of a call that is not to be limited; nil: all are.
	Skip func(ctx context.Context, fullMethod string) bool
	// MaxDelay is the longest that a call or message waits for its turn, where a policy has a leaky bucket;
	// what would wait longer is denied. 0: [middleware.DefaultMaxDelay]. Negative: nothing waits.
	MaxDelay time.Duration
	// Now is what headers are reckoned from; nil: [time.Now].
	Now func() time.Time
}

func (o *Options) setDefaults() {
	if o.Extract == nil {
		o.Extract = extract
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// extract reads what every call has. A peer that has no IP address, as on a unix socket, is no client that
// a policy per address knows.
func extract(ctx context.Context, fullMethod string) (string, limiter.RequestContext, error) {
	rc := limiter.RequestContext{Method: http.MethodPost, Endpoint: fullMethod}
	if p, ok := peer.FromContext(ctx); ok {
		rc.ClientIP = address(p.Addr)
	}
	return "", rc, nil
}

// address is the IP address of a peer; the zero Addr if it has none. A server that is behind net/http
// knows it as text only.
func address(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	if a == nil {
		return netip.Addr{}
	}
	parsed, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return parsed.Addr().Unmap().WithZone("")
}
