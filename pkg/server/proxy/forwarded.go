package proxy

import (
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
)

// rewriter makes the request to the upstream from that of a client.
func rewriter(target *url.URL, trusted func(netip.Addr) bool) func(*httputil.ProxyRequest) {
	return func(pr *httputil.ProxyRequest) {
		pr.SetURL(target)
		pr.Out.Host = pr.In.Host // as the client asked: many an upstream builds links from it
		// A query that Go can't parse is the upstream's to judge: nothing here reads it.
		pr.Out.URL.RawQuery = pr.In.URL.RawQuery
		peer := peerOf(pr.In)
		dropForwarded(pr.Out.Header)
		if trusted != nil && peer.IsValid() && trusted(peer) {
			keepForwarded(pr)
			return
		}
		pr.SetXForwarded()
	}
}

// peerOf is the address of the peer of a request; the zero Addr if it has none, as on a unix socket.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// dropForwarded drops all that claims to say who the client is, or what it asked for in the first place, in any
// spelling that an upstream may take for it: to CGI and its heirs "_" and "-" are the same.
func dropForwarded(h http.Header) {
	for name := range h {
		if speaksForOthers(name) {
			delete(h, name)
		}
	}
}

func speaksForOthers(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	switch name {
	case "x-forwarded", "x-real-ip", "forwarded",
		// Some frameworks take these for the path, which is then another one than weir judged.
		"x-original-url", "x-original-uri", "x-original-method", "x-rewrite-url":
		return true
	}
	return strings.HasPrefix(name, "x-forwarded-")
}

// keepForwarded passes on what a trusted proxy says of its client, and adds the proxy.
func keepForwarded(pr *httputil.ProxyRequest) {
	for name, values := range pr.In.Header {
		if speaksForOthers(name) && !strings.Contains(name, "_") {
			pr.Out.Header[name] = values
		}
	}
	// SetXForwarded adds the peer to X-Forwarded-For, and knows of the other two only what it sees itself.
	host, proto := pr.In.Header["X-Forwarded-Host"], pr.In.Header["X-Forwarded-Proto"]
	pr.SetXForwarded()
	if host != nil {
		pr.Out.Header["X-Forwarded-Host"] = host
	}
	if proto != nil {
		pr.Out.Header["X-Forwarded-Proto"] = proto
	}
	if elements := pr.In.Header["Forwarded"]; len(elements) > 0 {
		pr.Out.Header.Set("Forwarded", strings.Join(elements, ", ")+", for="+node(peerOf(pr.In)))
	}
}

// node is an address as a node of RFC 7239, section 6.
func node(a netip.Addr) string {
	if a.Is6() {
		return `"[` + a.String() + `]"`
	}
	return a.String()
}
