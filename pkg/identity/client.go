package identity

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

const (
	// maxHops is how many addresses of a chain are read: no real chain of proxies is that long.
	maxHops = 64
	// maxNode is the longest text of one hop, and more than any address with a port needs.
	maxNode = 80
)

// peer is who is at the other end of the connection.
type peer struct {
	addr    netip.Addr // the zero Addr: none, or none that can be told
	trusted bool
}

// httpPeer asks the listener, not the address, whether the peer is on a unix socket: a client may bind its
// end to a path that looks like an address.
func (r *Resolver) httpPeer(req *http.Request) peer {
	if local, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && isUnix(local) {
		return peer{trusted: true}
	}
	return r.remotePeer(req.RemoteAddr)
}

// netPeer is the peer at an address of package net.
func (r *Resolver) netPeer(a net.Addr) peer {
	switch a := a.(type) {
	case nil:
		return peer{}
	case *net.TCPAddr:
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		return peer{addr: addr, trusted: ok && r.Trusts(addr)}
	}
	if isUnix(a) {
		return peer{trusted: true}
	}
	return r.remotePeer(a.String())
}

func (r *Resolver) remotePeer(s string) peer {
	addr, ok := parseNode(s)
	return peer{addr: addr, trusted: ok && r.Trusts(addr)}
}

func isUnix(a net.Addr) bool { return strings.HasPrefix(a.Network(), "unix") }

// Trusts reports whether an address is that of a peer who may speak for others.
func (r *Resolver) Trusts(addr netip.Addr) bool { return r.trusted.Contains(addr) }

// clientIP is the address that the request came from, as the nearest proxy that is not trusted, or the client, has it.
func (r *Resolver) clientIP(p peer, h *headers) netip.Addr {
	if !p.trusted {
		return p.addr
	}
	switch r.client {
	case forwardedHeader:
		return r.walk(p.addr, h.values(forwardedHeader), cutLastElement, forwardedFor)
	case header{}:
	default:
		return r.walk(p.addr, h.values(r.client), cutLastComma, parseNode)
	}
	// Of several headers one is read, and the first that is there: to weigh them against each other
	// would let a client that adds one of them undo what the proxy wrote in another.
	if lines := h.values(forwardedForHeader); anyText(lines) {
		return r.walk(p.addr, lines, cutLastComma, parseNode)
	}
	if lines := h.values(forwardedHeader); anyText(lines) {
		return r.walk(p.addr, lines, cutLastElement, forwardedFor)
	}
	return r.walk(p.addr, h.values(realIPHeader), cutLastComma, parseNode)
}

func anyText(lines []string) bool {
	for _, line := range lines {
		if strings.Trim(line, " \t,") != "" {
			return true
		}
	}
	return false
}

// walk follows a chain of hops from the peer, which wrote the last one, towards the client, and stops where
// somebody speaks who is not trusted: what is left of there, anybody may have made up. A hop that names
// no address ends the walk too, at the proxy that reported it.
func (r *Resolver) walk(
	at netip.Addr, lines []string,
	cutLast func(string) (before, hop string, more bool), address func(string) (netip.Addr, bool),
) netip.Addr {
	hops := 0
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var hop string
			rest, hop, more = cutLast(rest)
			if hops++; hops > maxHops {
				return at
			}
			if hop = trimBlanks(hop); hop == "" {
				continue // RFC 9110, section 5.6.1: empty elements of a list do not count
			}
			addr, ok := address(hop)
			if !ok {
				return at
			}
			if at = addr; !r.Trusts(addr) {
				return at
			}
		}
	}
	return at
}

// cutLastComma cuts off the last element of a list without quotes.
func cutLastComma(s string) (before, hop string, more bool) {
	i := strings.LastIndexByte(s, ',')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

func trimBlanks(s string) string { return strings.Trim(s, " \t") }

// parseNode reads an address as proxies write it: IPv4 or IPv6, with a port or without it, IPv6 with a port
// in brackets. IPv4 inside IPv6 becomes IPv4, and a zone is left out. "unknown" and names such as _hidden
// are no addresses.
func parseNode(s string) (netip.Addr, bool) {
	if len(s) > maxNode {
		return netip.Addr{}, false
	}
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok := strings.Cut(rest, "]")
		if !ok || port != "" && !isPort(port) {
			return netip.Addr{}, false
		}
		addr, ok := parseAddr(host)
		return addr, ok && strings.Contains(host, ":")
	}
	if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') {
		if !isPort(s[i:]) {
			return netip.Addr{}, false
		}
		s = s[:i]
	}
	return parseAddr(s)
}

// isPort tells whether s is a colon with a port behind it: digits, or a name in its place (RFC 7239, section 6).
func isPort(s string) bool {
	s, ok := strings.CutPrefix(s, ":")
	if name, hidden := strings.CutPrefix(s, "_"); hidden {
		return ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) })
	}
	return ok && s != "" && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}

func parseAddr(s string) (netip.Addr, bool) {
	// The zone is cut off before it is parsed: netip keeps every zone that it sees in a table.
	host, zone, zoned := strings.Cut(s, "%")
	addr, err := netip.ParseAddr(host)
	if err != nil || zoned && (zone == "" || addr.Is4()) {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}
