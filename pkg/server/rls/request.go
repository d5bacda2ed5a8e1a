package rls

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// byPolicies has each descriptor decided by the limiter's policies; false: it is not their domain.
func (s *Server) byPolicies(req *pb.RateLimitRequest, w *work) (known bool, err error) {
	if req.GetDomain() != PolicyDomain {
		return false, nil
	}
	for range req.GetDescriptors() { // all of them first: queries point at them
		w.requests = append(w.requests, limiter.RequestContext{})
	}
	for i, d := range req.GetDescriptors() {
		v := &w.verdicts[i]
		v.hits, v.observed = hitsOf(req, d), s.shadow
		if d.GetLimit() != nil {
			err = s.override(req, d, v, w)
		} else {
			// There is no way to have Envoy wait: what a leaky bucket would hold back takes no place in its queue.
			v.query.Request, v.query.MaxDelay = &w.requests[i], -1
			err = w.request(i, d)
		}
		if err != nil {
			return true, badDescriptor(i, err)
		}
	}
	return true, nil
}

// request makes of the entries of a descriptor what the policies judge.
func (w *work) request(i int, d *pbDescriptor) error {
	r := &w.requests[i]
	for at, e := range d.GetEntries() {
		var err error
		switch value := e.GetValue(); e.GetKey() {
		case "user":
			err = once(&r.UserID, fit(value))
		case "role":
			err = once(&r.UserRole, fit(value))
		case "method":
			err = once(&r.Method, strings.ToUpper(fit(value)))
		case "endpoint", "path":
			// The query goes first: a long one must not decide how much of the path is left.
			if end := strings.IndexAny(value, "?#"); end >= 0 {
				value = value[:end]
			}
			err = once(&r.Endpoint, fit(value))
		case "api_key":
			if value != "" {
				err = once(&r.APIKey, identity.HashAPIKey(value))
			}
		case "client_ip", "remote_address":
			err = address(&r.ClientIP, value)
		default:
			err = w.meta(i, e.GetKey(), value)
		}
		if err != nil {
			return fmt.Errorf("entries[%d]: %w", at, err)
		}
	}
	return nil
}

var errTwice = errors.New("this was said by another entry already (user, role, method, api_key, endpoint or path, client_ip or " +
	"remote_address, and any other key: one each; use several descriptors)")

func once(to *string, value string) error {
	if *to != "" {
		return errTwice
	}
	*to = value
	return nil
}

func address(to *netip.Addr, value string) error {
	if to.IsValid() {
		return errTwice
	}
	addr, err := netip.ParseAddr(value)
	if err != nil { // whose text has the value in it
		return errors.New("the value is no IP address (send one, such as Envoy's remote_address)")
	}
	*to = addr.Unmap().WithZone("")
	return nil
}

// meta adds an entry to the metadata, in a map that is used again.
func (w *work) meta(i int, key, value string) error {
	if key == "" {
		return errors.New("the key is empty (name what the value is of)")
	}
	for len(w.metadata) <= i {
		w.metadata = append(w.metadata, nil)
	}
	if w.metadata[i] == nil {
		w.metadata[i] = map[string]string{}
	}
	m := w.metadata[i]
	key = fit(key)
	if _, ok := m[key]; ok {
		return errTwice
	}
	m[key] = fit(value)
	w.requests[i].Metadata = m
	return nil
}
