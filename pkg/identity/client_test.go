package identity

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(t testing.TB, texts ...string) []netip.Prefix {
	t.Helper()
	var all []netip.Prefix
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func resolver(t testing.TB, o Options) *Resolver {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines makes headers of "Name: value" texts.
func lines(texts ...string) http.Header {
	h := make(http.Header)
	for _, text := range texts {
		name, value, _ := strings.Cut(text, ": ")
		h.Add(name, value)
	}
	return h
}

// The attacker is 203.0.113.66 throughout, whom it wants to look like is 9.9.9.9, and the proxies are in 10.0.0.0/8
// and fd00::/8.
func TestClientIP(t *testing.T) {
	const attacker = "203.0.113.66"
	proxies := []string{"10.0.0.0/8", "fd00::/8"}
	for _, test := range []struct {
		name    string
		trusted []string
		peer    string
		headers []string
		want    string
	}{
		{"no proxy is trusted", nil, attacker + ":4711", []string{"X-Forwarded-For: 9.9.9.9", "Forwarded: for=9.9.9.9", "X-Real-IP: 9.9.9.9"}, attacker},
		{"peer is none of the proxies", proxies, attacker + ":4711", []string{"X-Forwarded-For: 9.9.9.9", "Forwarded: for=9.9.9.9", "X-Real-IP: 9.9.9.9"}, attacker},
		{"one proxy", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: " + attacker}, attacker},
		{"one proxy, spoofed before it", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, " + attacker}, attacker},
		{"one proxy, spoofed proxies before it", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, 10.0.0.7, " + attacker}, attacker},
		{"two proxies", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, " + attacker + ", 10.0.0.2"}, attacker},
		{"the second proxy is not trusted", []string{"10.0.0.1/32"}, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, 10.0.0.2"}, "10.0.0.2"},
		{"spoofed in a line of its own", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: " + attacker}, attacker},
		{"chain over three lines", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: " + attacker + ", 10.0.0.3", "X-Forwarded-For: 10.0.0.2"}, attacker},
		{"nobody but proxies", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no header", proxies, "10.0.0.1:1", nil, "10.0.0.1"},
		{"garbage before the proxy's", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: \"', " + attacker}, attacker},
		{"garbage of the last proxy", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, garbage"}, "10.0.0.1"},
		{"garbage of a further proxy", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, garbage, 10.0.0.2"}, "10.0.0.2"},
		{"unknown", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, unknown"}, "10.0.0.1"},
		{"empty elements", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9, " + attacker + ", , ", "X-Forwarded-For: ,"}, attacker},
		{"only empty elements", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: , ,", "Forwarded: for=" + attacker}, attacker},
		{"with a port", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: " + attacker + ":8080"}, attacker},
		{"IPv6 with a port", proxies, "[fd00::1]:1", []string{"X-Forwarded-For: [2001:db8::66]:8080"}, "2001:db8::66"},
		{"IPv6 without brackets", proxies, "[fd00::1]:1", []string{"X-Forwarded-For: 2001:db8::66"}, "2001:db8::66"},
		{"IPv6 with a zone", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: fe80::66%eth0"}, "fe80::66"},
		{"peer with a zone", []string{"fe80::/10"}, "[fe80::1%eth0]:1", []string{"X-Forwarded-For: " + attacker}, attacker},
		{"IPv4 in IPv6", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: ::ffff:203.0.113.66"}, attacker},
		{"peer as IPv4 in IPv6", proxies, "[::ffff:10.0.0.1]:1", []string{"X-Forwarded-For: " + attacker}, attacker},
		{"trusted hop as IPv4 in IPv6", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: " + attacker + ", ::ffff:10.0.0.2"}, attacker},
		{"IPv4 with a zone", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9%x"}, "10.0.0.1"},
		{"IPv4 in octal", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 010.011.011.011"}, "10.0.0.1"},
		{"more hops than anybody has", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 9.9.9.9" + strings.Repeat(",10.0.0.2", maxHops)}, "10.0.0.2"},
		{"as many hops as may be", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: 198.51.100.9" + strings.Repeat(",10.0.0.2", maxHops-1)}, "198.51.100.9"},

		{"Forwarded", proxies, "10.0.0.1:1", []string{`Forwarded: for=9.9.9.9, for=203.0.113.66;proto=https;by=10.0.0.1`}, attacker},
		{"Forwarded, quoted, with ports", proxies, "10.0.0.1:1", []string{`Forwarded: For="[2001:db8::66]:4711";host="a,b;for=9.9.9.9", proto=http;for="10.0.0.2:80"`}, "2001:db8::66"},
		{"Forwarded, an escaped quote", proxies, "10.0.0.1:1", []string{`Forwarded: for=9.9.9.9, for=203.0.113.66;host="a\",b"`}, attacker},
		{"Forwarded, an escaped backslash", proxies, "10.0.0.1:1", []string{`Forwarded: for=9.9.9.9;host="a,\\", for=203.0.113.66;host="a,\\"`}, attacker},
		{"Forwarded, a quote that the client left open", proxies, "10.0.0.1:1", []string{`Forwarded: for="9.9.9.9, for=203.0.113.66`}, attacker},
		{"Forwarded, a quote left open in a line of its own", proxies, "10.0.0.1:1", []string{`Forwarded: for="9.9.9.9`, `Forwarded: for="203.0.113.66"`}, attacker},
		{"Forwarded, hidden", proxies, "10.0.0.1:1", []string{"Forwarded: for=9.9.9.9, for=_hidden"}, "10.0.0.1"},
		{"Forwarded, unknown", proxies, "10.0.0.1:1", []string{"Forwarded: for=9.9.9.9, for=unknown, for=10.0.0.2"}, "10.0.0.2"},
		{"Forwarded, hidden port", proxies, "10.0.0.1:1", []string{`Forwarded: for="203.0.113.66:_p0rt"`}, attacker},
		{"Forwarded, for twice in one element", proxies, "10.0.0.1:1", []string{"Forwarded: for=9.9.9.9;for=203.0.113.66"}, "10.0.0.1"},
		{"Forwarded, without for", proxies, "10.0.0.1:1", []string{"Forwarded: for=9.9.9.9, proto=https"}, "10.0.0.1"},

		// A proxy that writes X-Forwarded-For lets Forwarded and X-Real-IP through as the client sent them.
		{"both, and they differ", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: " + attacker, "Forwarded: for=9.9.9.9"}, attacker},
		{"X-Real-IP beside it", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: " + attacker, "X-Real-IP: 9.9.9.9"}, attacker},
		{"garbage does not make room for Forwarded", proxies, "10.0.0.1:1", []string{"X-Forwarded-For: x", "Forwarded: for=9.9.9.9"}, "10.0.0.1"},
		{"X-Real-IP alone", proxies, "10.0.0.1:1", []string{"X-Real-IP: " + attacker}, attacker},
		{"Forwarded before X-Real-IP", proxies, "10.0.0.1:1", []string{"Forwarded: for=203.0.113.66", "X-Real-IP: 9.9.9.9"}, attacker},

		{"peer that is no address", proxies, "@", []string{"X-Forwarded-For: 9.9.9.9"}, "invalid IP"},
		{"peer without a port", proxies, attacker, nil, attacker},
		{"no peer", []string{"0.0.0.0/0", "::/0"}, "", []string{"X-Forwarded-For: 9.9.9.9"}, "invalid IP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := resolver(t, Options{TrustedProxies: prefixes(t, test.trusted...)})
			req := &http.Request{RemoteAddr: test.peer, Header: lines(test.headers...)}
			if got := r.clientIP(r.httpPeer(req), &headers{http: req.Header}).String(); got != test.want {
				t.Errorf("client %s, want %s", got, test.want)
			}
		})
	}
}

// With the header named, nothing but that is read.
func TestClientHeader(t *testing.T) {
	h := lines("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2", "X-Real-IP: 192.0.2.3", "CF-Connecting-IP: 192.0.2.4")
	for name, want := range map[string]string{
		"": "192.0.2.1", "x-forwarded-for": "192.0.2.1", "forwarded": "192.0.2.2", "X-Real-IP": "192.0.2.3",
		"CF-Connecting-IP": "192.0.2.4", "X-Absent": "10.0.0.1",
	} {
		r := resolver(t, Options{TrustedProxies: prefixes(t, "10.0.0.0/8"), ClientHeader: name})
		if got := r.clientIP(r.remotePeer("10.0.0.1:1"), &headers{http: h}).String(); got != want {
			t.Errorf("client header %q: client %s, want %s", name, got, want)
		}
	}
}

func TestParseNode(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "192.0.2.1:80": "192.0.2.1", "[2001:db8::1]": "2001:db8::1", "[2001:db8::1]:80": "2001:db8::1",
		"[fe80::1%25eth0]:1": "fe80::1", "::": "::", "[::1]:_obf": "::1",
		"192.0.2.1:": "", "192.0.2.1:x": "", "192.0.2.1:123456": "", "192.0.2.1:-1": "", "[192.0.2.1]": "", "[2001:db8::1": "", "[2001:db8::1]80": "",
		"2001:db8::1]": "", "[]": "", "[": "", ":": "", ":80": "", "fe80::1%": "", "192.0.2": "", "192.0.2.1 ": "", "_hidden": "", "unknown": "", "[::1]:_": "",
		"a:b": "", strings.Repeat("1", 100): "",
	} {
		got, ok := parseNode(text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, got, ok, want)
		}
	}
}

func TestForwardedFor(t *testing.T) {
	for text, want := range map[string]string{
		`for=192.0.2.1`: "192.0.2.1", `FOR="192.0.2.1:80"`: "192.0.2.1", `by=_x;for="[2001:db8::1]";proto=https`: "2001:db8::1", `;for=192.0.2.1;`: "192.0.2.1",
		`for=192.0.2.1 ; proto=http`: "192.0.2.1", `for="192.0.\2.1"`: "192.0.2.1", `host="a\"b;for=192.0.2.9\\";for=192.0.2.1`: "192.0.2.1",
		`for="192.0.2.1`: "", `for="192.0.2.1\"`: "", `for=192.0.2.1"`: "", `for=`: "", `for`: "", `=192.0.2.1`: "", `f or=192.0.2.1`: "",
		`for="192.0.2.1"x`: "", `for=192.0.2.1 x`: "", `proto=https`: "", `for=192.0.2.1;for=192.0.2.1`: "", ``: "", `for=""`: "", `for="\`: "", `for==192.0.2.1`: "",
	} {
		got, ok := forwardedFor(text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, got, ok, want)
		}
	}
}
