package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

func (s *Server) fields() []field {
	return []field{
		{name: "http", to: address(&s.HTTP)},
		{name: "grpc", to: address(&s.GRPC)},
		{name: "proxy", to: s.Proxy.into()},
		{name: "trusted_proxies", to: atMost(&s.TrustedProxies, MaxTrustedProxies, prefix)},
		{name: "admin_token_file", to: text(&s.AdminTokenFile)},
		{name: "rls_config", to: atMost(&s.RLSConfig, MaxRLSConfig, nonEmpty)},
		{name: "headers", to: enum(&s.Headers, HeaderDialects())},
		{name: "identity", to: s.Identity.into()},
		{name: "jwt", to: pointer(&s.JWT, (*JWT).into)},
	}
}

func (s *Server) into() into {
	return func(d *decoder, c cursor) {
		mapping(s.fields()...)(d, c)
		s.checkListeners(d, c)
		if rls := join(c.path, "rls_config"); len(s.RLSConfig) > 0 && s.GRPC == "" && !d.unreadable(join(c.path, "grpc")) {
			d.failAt(d.position(rls), rls, "is for the gRPC service, which is off", `set grpc to an address such as "127.0.0.1:8081", or remove rls_config`)
		}
	}
}

// checkListeners refuses two listeners with one address: the second would fail
// when everything else has begun.
func (s *Server) checkListeners(d *decoder, c cursor) {
	first := map[string]string{}
	for _, l := range []struct{ name, address string }{{"http", s.HTTP}, {"grpc", s.GRPC}, {"proxy.listen", s.Proxy.Listen}} {
		path := join(c.path, l.name)
		other, taken := first[l.address]
		switch {
		case l.address == "" || strings.HasSuffix(l.address, ":0"):
		case taken && !d.unreadable(path):
			d.failAt(d.position(path), path, fmt.Sprintf("%s is the address of %s already", l.address, join(c.path, other)), "give each a port of its own")
		default:
			first[l.address] = l.name
		}
	}
}

func (p *Proxy) into() into {
	return func(d *decoder, c cursor) {
		mapping(
			field{name: "listen", to: address(&p.Listen)},
			field{name: "upstream", to: upstream(&p.Upstream)},
		)(d, c)
		listen, up := join(c.path, "listen"), join(c.path, "upstream")
		switch {
		case d.unreadable(listen) || d.unreadable(up):
		case p.Listen == "" && p.Upstream != "":
			d.failAt(d.position(listen), listen, "is missing: there is an upstream, and nobody to ask it", `add it, for example "listen: 127.0.0.1:8000", or remove upstream`)
		case p.Listen != "" && p.Upstream == "":
			d.failAt(d.position(up), up, "is missing: the proxy would have nobody to ask", `add it, for example "upstream: http://127.0.0.1:9000", or remove listen`)
		}
	}
}

// upstream reads the URL that the proxy asks.
func upstream(to *string) into {
	return scalar(to, "a URL", func(n *yaml.Node) (string, *complaint) {
		const form = "write it such as http://127.0.0.1:9000 or https://app.example.org/base"
		if n.Value == "" {
			return "", nil
		}
		u, bad := webURL(n, form)
		switch {
		case bad != nil:
			return "", bad
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return "", &complaint{policy.Quote(n.Value) + " has a query or fragment", "cut it off"}
		}
		return n.Value, nil
	})
}

// webURL reads an http or https URL with a host. A name and password in it
// would end in logs and process lists.
func webURL(n *yaml.Node, form string) (*url.URL, *complaint) {
	want := &complaint{"want an http or https URL, got " + yamlfile.Describe(n), form}
	u, err := url.Parse(n.Value)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || len(n.Value) > policy.MaxText:
		return nil, want
	case u.User != nil: // not quoted: it is a secret
		return nil, &complaint{"has a user name or password in the URL", "remove it"}
	case !validURLHost(u):
		return nil, want
	}
	return u, nil
}

func validURLHost(u *url.URL) bool {
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	if u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return false
	}
	_, err := netip.ParseAddr(u.Hostname())
	return err == nil || validHost(u.Hostname())
}

func (i *Identity) fields() []field {
	return []field{
		{name: "client_header", to: headerName(&i.ClientHeader)},
		{name: "user_header", to: headerName(&i.UserHeader)},
		{name: "role_header", to: headerName(&i.RoleHeader)},
		{name: "api_key_header", to: headerName(&i.APIKeyHeader)},
		{name: "request_id_header", to: headerName(&i.RequestIDHeader)},
		{name: "metadata_headers", to: metadataHeaders(&i.MetadataHeaders)},
	}
}

// into refuses one header for two things: who could set the one would have the
// other.
func (i *Identity) into() into {
	return func(d *decoder, c cursor) {
		mapping(i.fields()...)(d, c)
		first := map[string]string{}
		for _, f := range []struct{ name, header string }{
			{"client_header", i.ClientHeader}, {"user_header", i.UserHeader}, {"role_header", i.RoleHeader},
			{"api_key_header", i.APIKeyHeader}, {"request_id_header", i.RequestIDHeader},
		} {
			path, small := join(c.path, f.name), strings.ToLower(f.header)
			other, taken := first[small]
			switch {
			case small == "" || d.unreadable(path):
			case taken:
				if !d.has(path) { // its default is taken by the other
					path, other = join(c.path, other), f.name
				}
				d.failAt(d.position(path), path, fmt.Sprintf("%s is the header of %s already", f.header, other), "name another header, or \"\" for none")
			default:
				first[small] = f.name
			}
		}
	}
}

// headerName reads the name of a header, or an empty text for none.
func headerName(to *string) into {
	return scalar(to, "the name of a header", func(n *yaml.Node) (string, *complaint) {
		return n.Value, checkHeaderName(n.Value)
	})
}

func checkHeaderName(name string) *complaint {
	const longest = 128
	if len(name) > longest || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return &complaint{policy.Quote(name) + " is not the name of a header", `use up to 128 letters, digits and "-", as in X-User, or "" for none`}
	}
	return nil
}

// metadataHeaders reads headers by the name of what they become.
func metadataHeaders(to *map[string]string) into {
	return func(d *decoder, c cursor) {
		texts(to)(d, c)
		if n := len(*to); n > MaxMetadataHeaders {
			d.fail(c, fmt.Sprintf("has %d entries", n), fmt.Sprintf("write at most %d", MaxMetadataHeaders))
			return
		}
		for _, name := range slices.Sorted(maps.Keys(*to)) {
			at := cursor{path: fmt.Sprintf("%s[%q]", c.path, name)}
			at.pos = d.position(at.path)
			header := (*to)[name]
			switch bad := checkHeaderName(header); {
			case d.unreadable(at.path):
			case name == "" || len(name) > policy.MaxText:
				d.fail(at, policy.Quote(name)+" is no name for metadata", fmt.Sprintf("use 1 to %d bytes", policy.MaxText))
			case header == "":
				d.fail(at, "must not be empty", "name a header or remove the entry")
			case bad != nil:
				d.fail(at, bad.problem, strings.TrimSuffix(bad.mend, `, or "" for none`))
			}
		}
	}
}

// nonEmpty reads a text that says something.
func nonEmpty(to *string) into {
	return func(d *decoder, c cursor) {
		text(to)(d, c)
		switch {
		case d.unreadable(c.path):
		case *to == "":
			d.fail(c, "must not be empty", "give it a value or remove it")
		case len(*to) > policy.MaxText:
			d.fail(c, fmt.Sprintf("%s has %d bytes", policy.Quote(*to), len(*to)), fmt.Sprintf("shorten it to at most %d", policy.MaxText))
		}
	}
}

// atMost reads a list of at most so many elements.
func atMost[T any](to *[]T, most int, each func(*T) into) into {
	return func(d *decoder, c cursor) {
		list(to, each)(d, c)
		if n := len(*to); n > most {
			d.fail(c, fmt.Sprintf("has %d entries", n), fmt.Sprintf("write at most %d", most))
		}
	}
}
