package policy

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCleanEndpoint(t *testing.T) {
	for endpoint, want := range map[string]string{
		"": "", "/": "/", "/a": "/a", "/a/": "/a/", "/a/b.c/~d": "/a/b.c/~d",
		"/a?b=/../c": "/a", "/a#b": "/a", "?a": "/", "#": "/", "/?": "/",
		"//": "/", "///a//b//": "/a/b/", "//host/a": "/host/a",
		"/.": "/", "/..": "/", "/../..": "/", "/../../a": "/a", "/a/..": "/", "/a/../..": "/", "/a/.": "/a/", "/a/b/..": "/a/", "/a/b/../c": "/a/c",
		"/...": "/...", "/.a": "/.a", "/a..": "/a..", "/..a/.": "/..a/",
		"/%61": "/a", "/%7Euser": "/~user", "/%2e%2E/a": "/a", "/a/%2E%2e": "/", "/a%2fb": "/a%2Fb", "/a%2Fb": "/a%2Fb", "/%2e./a": "/a",
		"/%252e": "/%252e", "/%3A%40%21": "/:@!", "/:@!$&'()*+,;=": "/:@!$&'()*+,;=",
		"/100%": "/100%25", "/%": "/%25", "/%4": "/%254", "/%zz": "/%25zz", "/%25": "/%25",
		"/é": "/%C3%A9", "/%c3%a9": "/%C3%A9", "/a b": "/a%20b", "/\x00\n": "/%00%0A", "/\xff": "/%FF", "/{a}": "/%7Ba%7D", `/a\b`: "/a%5Cb",
		"//api/./v1/../v2/%7euser%3abatch?x": "/api/v2/~user:batch", // docs/CONFIG.md
		"a":                                  "/a", "../a": "/a", "*": "/*",
		"http://example.org/a/../b?c": "/b", "https://example.org": "/", "http://example.org?a=/b": "/", "a+b.c-1://x/y": "/y",
		"/a://b/c": "/a:/b/c", "1://a": "/1:/a", "é://a": "/%C3%A9:/a", "://a": "/:/a",
	} {
		if got := CleanEndpoint(endpoint); got != want {
			t.Errorf("%q: got %q, want %q", endpoint, got, want)
		}
	}
}

func TestCleanEndpointAllocatesOnlyToRewrite(t *testing.T) {
	for _, endpoint := range []string{"", "/", "/api/v2/users/~me/%2F/a.b/", "/api/v2/pipelines?page=2&size=10", "http://example.org/api/v2"} {
		if n := testing.AllocsPerRun(100, func() { CleanEndpoint(endpoint) }); n != 0 {
			t.Errorf("%q: %v allocations", endpoint, n)
		}
	}
}

// checkClean holds what must be true of every clean path, and returns it.
func checkClean(t rapid.TB, endpoint string) string {
	clean := CleanEndpoint(endpoint)
	switch {
	case clean == "" && endpoint == "":
		return ""
	case !strings.HasPrefix(clean, "/") || strings.Contains(clean, "//") || strings.Contains(clean+"/", "/../") || strings.Contains(clean+"/", "/./"):
		t.Fatalf("%q: %q is no clean path", endpoint, clean)
	case strings.ContainsFunc(clean, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '?' || r == '#' }):
		t.Fatalf("%q: %q has what no path has", endpoint, clean)
	case CleanEndpoint(clean) != clean:
		t.Fatalf("%q: %q becomes %q when it is cleaned again", endpoint, clean, CleanEndpoint(clean))
	case !isClean(clean) || rewritePath(clean) != clean:
		t.Fatalf("%q: the two ways of cleaning differ about %q", endpoint, clean)
	}
	return clean
}

// byPackages is what path.Clean and net/url make of the path of a request, with its trailing slash.
func byPackages(t rapid.TB, escaped string) string {
	decoded, err := url.PathUnescape(strings.ReplaceAll(escaped, "%2F", "%252F")) // an escaped slash parts no segments
	if err != nil {
		t.Fatal(err)
	}
	cleaned := path.Clean(decoded)
	if last := decoded[strings.LastIndexByte(decoded, '/')+1:]; cleaned != "/" && (last == "" || last == "." || last == "..") {
		cleaned += "/"
	}
	return strings.ReplaceAll(cleaned, "%2F", "\x00") // as it would be decoded, but for that slash
}

func TestCleanEndpointAgreesWithTheStandardLibrary(t *testing.T) {
	segment := rapid.OneOf(
		rapid.SampledFrom([]string{"", ".", "..", "%2e", "%2E.", "a", "a.b", "é", "%C3%a9", "%2F", "%20", "a:b", "...", "%3a"}),
		rapid.StringMatching(`[a-z.]{0,3}`))
	rapid.Check(t, func(t *rapid.T) {
		escaped := "/" + strings.Join(rapid.SliceOfN(segment, 0, 8).Draw(t, "segments"), "/")
		clean := checkClean(t, escaped)
		u, err := url.ParseRequestURI(clean)
		if err != nil {
			t.Fatal(err)
		}
		got, err := url.PathUnescape(strings.ReplaceAll(u.EscapedPath(), "%2F", "%00"))
		if err != nil {
			t.Fatal(err)
		}
		if want := byPackages(t, escaped); got != want {
			t.Fatalf("%q: got %q, want %q", escaped, got, want)
		}
	})
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"/a/../b//c/./%2e%2E/?q#f", "http://h/%zz", "/{id}/*", "/%2e", "*"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, endpoint, pattern string) {
		clean := checkClean(t, endpoint)
		p, err := ParseEndpoint(pattern)
		if err != nil {
			checkTextError(t, err)
			return
		}
		if exact, ok := p.Exact(); ok && (!p.Match(exact) || checkClean(t, exact) != exact) {
			t.Errorf("%q does not match %q, its own path", pattern, exact)
		}
		if p.Match(clean) && !matchSlowly(pattern, clean) || !p.Match(clean) && matchSlowly(pattern, clean) {
			t.Errorf("%q and %q: got %v", pattern, clean, p.Match(clean))
		}
	})
}
