package identity

import (
	"context"
	"net/http"
	"strings"

	grpcpeer "google.golang.org/grpc/peer"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Request is the context of a request that is itself to be limited: in a middleware or a proxy. An error
// is a [*FieldError].
func (r *Resolver) Request(req *http.Request) (policy.RequestContext, error) {
	p, h := r.httpPeer(req), headers{http: req.Header, host: req.Host}
	return r.context(p, &h, req.Method, req.URL.EscapedPath())
}

// ForwardAuth is the context of the request that a proxy asks about. A trusted peer names its method and
// path in X-Forwarded-Method and X-Forwarded-Uri (Traefik, Caddy), or X-Original-Method and X-Original-URI
// or X-Original-URL (nginx). What it does not name, and everything that others name, is taken from the
// question itself. An error is a [*FieldError].
func (r *Resolver) ForwardAuth(req *http.Request) (policy.RequestContext, error) {
	p, h := r.httpPeer(req), headers{http: req.Header, host: req.Host}
	method, path := req.Method, req.URL.EscapedPath()
	if p.trusted {
		var err error
		if method, err = h.originalMethod(method); err != nil {
			return policy.RequestContext{}, err
		}
		if path, err = h.originalPath(path); err != nil {
			return policy.RequestContext{}, err
		}
	}
	return r.context(p, &h, method, path)
}

// GRPC is the context of a call, from the peer and the metadata in a server's context. Metadata count as
// headers do; the method is POST, which gRPC calls are, and the path the full method. An error is a
// [*FieldError].
func (r *Resolver) GRPC(ctx context.Context, fullMethod string) (policy.RequestContext, error) {
	var p peer
	if other, ok := grpcpeer.FromContext(ctx); ok {
		p = r.netPeer(other.Addr)
	}
	return r.context(p, &headers{grpc: ctx}, http.MethodPost, fullMethod)
}

func (r *Resolver) context(p peer, h *headers, method, path string) (policy.RequestContext, error) {
	c := policy.RequestContext{
		ClientIP: r.clientIP(p, h),
		Method:   strings.ToUpper(method), // net/http takes any, and what is behind it may not mind the case
		Endpoint: path,
	}
	for _, text := range [...]struct{ field, value string }{{"method", c.Method}, {"path", path}} {
		if err := checkText(text.field, text.value); err != nil {
			return policy.RequestContext{}, err
		}
	}
	if ids := h.values(r.requestID); len(ids) == 1 && checkText("", ids[0]) == nil {
		c.RequestID = ids[0]
	}
	raw, err := h.one(r.apiKey)
	if err != nil {
		return policy.RequestContext{}, err
	}
	if raw != "" {
		c.APIKey = HashAPIKey(raw)
	}
	if err := r.who(&c, p, h); err != nil {
		return policy.RequestContext{}, err
	}
	return c, nil
}

// who fills in what only a token proves, or a trusted peer may state. User and role are of one source: the
// role that a proxy states is not that of the user that a token proves.
func (r *Resolver) who(c *policy.RequestContext, p peer, h *headers) error {
	proven := r.token(c, h)
	if !p.trusted {
		return nil
	}
	var err error
	if !proven {
		if c.UserID, err = h.one(r.user); err != nil {
			return err
		}
		if c.UserRole, err = h.one(r.role); err != nil {
			return err
		}
	}
	for i := range r.metadata {
		m := &r.metadata[i]
		value, err := h.metadata(m.header)
		if err != nil {
			return err
		}
		if value == "" {
			continue
		}
		if c.Metadata == nil {
			c.Metadata = make(map[string]string, len(r.metadata)) // only where metadata is configured
		}
		c.Metadata[m.name] = value
	}
	return nil
}

func (h *headers) metadata(of header) (string, error) {
	if of == hostHeader {
		return h.hostName()
	}
	return h.one(of)
}

// token fills in user and role by the request's token, and tells whether it has one that verifies. One that
// does not says nothing at all: what a trusted peer states holds then, or else a client could get rid of the
// limit of its user by sending a bad token.
func (r *Resolver) token(c *policy.RequestContext, h *headers) bool {
	if r.jwt == nil {
		return false
	}
	lines := h.values(r.jwt.header)
	if len(lines) == 0 {
		return false
	}
	why := rejectedMalformed // several lines: whose token each of them is can't be told
	if len(lines) == 1 {
		token, there := r.jwt.token(lines[0])
		if !there {
			return false
		}
		var who claims
		if who, why = r.jwt.verify(token); why == accepted {
			c.UserID, c.UserRole = who.user, who.role
			return true
		}
	}
	r.rejected[why].Add(1)
	return false
}
