package policy

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEndpointPatterns(t *testing.T) {
	for pattern, c := range map[string]struct{ matches, others []string }{
		"/":                 {[]string{"/"}, []string{"", "/a"}},
		"/login":            {[]string{"/login"}, []string{"/login/", "/logi", "/login2", "/a/login"}},
		"/login/":           {[]string{"/login/"}, []string{"/login", "/login/a"}},
		"/*":                {[]string{"/", "/a", "/a/b"}, []string{""}},
		"/api/v2/*":         {[]string{"/api/v2/", "/api/v2/a/b"}, []string{"/api/v2", "/api/v3/a"}},
		"/api*":             {[]string{"/api", "/apis", "/api/a"}, []string{"/ap"}},
		"/api/..*":          {[]string{"/api/..a"}, []string{"/api/a"}},
		"/u/{id}":           {[]string{"/u/7", "/u/..."}, []string{"/u/", "/u/7/", "/u/7/a", "/u"}},
		"/u/{id}/":          {[]string{"/u/7/"}, []string{"/u/7", "/u//"}},
		"/u/{id}/posts":     {[]string{"/u/7/posts"}, []string{"/u/7/post", "/u/posts", "/u/7/8/posts"}},
		"/{a}/{b}":          {[]string{"/1/2"}, []string{"/1", "/1/", "/1/2/3"}},
		"/{a}/x/{a}/*":      {[]string{"/1/x/2/", "/1/x/2/3/4"}, []string{"/1/x/2", "/1/y/2/"}},
		"/u/{id}/p*":        {[]string{"/u/7/p", "/u/7/posts/1"}, []string{"/u/7/q"}},
		"/{id}":             {[]string{"/a"}, []string{"/", "/a/b"}},
		"/café":             {[]string{"/caf%C3%A9"}, []string{"/caf"}},
		"/a%2A":             {[]string{"/a*"}, []string{"/ab"}},
		"/%7Bid%7D":         {[]string{"/%7Bid%7D"}, []string{"/a"}},
		"/v1/users%3Abatch": {[]string{"/v1/users:batch"}, nil},
	} {
		p, err := ParseEndpoint(pattern)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			continue
		}
		for _, path := range c.matches {
			if !p.Match(path) {
				t.Errorf("%q does not match %q", pattern, path)
			}
		}
		for _, path := range c.others {
			if p.Match(path) {
				t.Errorf("%q matches %q", pattern, path)
			}
		}
		if p.String() != pattern {
			t.Errorf("%q calls itself %q", pattern, p)
		}
	}
}

func TestEndpointPatternFaults(t *testing.T) {
	for pattern, says := range map[string]string{
		"":                                 `"" is not a path; start it with "/"`,
		"a":                                `"a" is not a path`,
		"*":                                `"*" is not a path`,
		"/a?b":                             "has a query or fragment",
		"/a#b":                             "has a query or fragment",
		"/*/a":                             `"/*/a" has a "*" before its end; write {name} for a whole segment`,
		"/a**":                             `has a "*" before its end`,
		"/{a":                              `"{a" has a brace that is not closed`,
		"/{a/b}":                           `"{a" has a brace that is not closed`,
		"/a}":                              `"a}" closes a brace that is not open`,
		"/{}":                              "a variable has no name; write {name}",
		"/a{b}":                            `"a{b}" is a variable and more in one segment`,
		"/{a}{b}":                          "is a variable and more in one segment",
		"/}a{":                             "is a variable and more in one segment",
		"/{{a}}":                           "is a variable and more in one segment",
		"/a/{b}*":                          `"{b}*" is a variable and more in one segment; write "{b}/*"`,
		"/{a b}":                           "is not the name of a variable",
		"/{a...}":                          "is not the name of a variable",
		"/a//b":                            "has an empty segment or one of dots",
		"//*":                              "has an empty segment or one of dots",
		"/a/../b":                          "has an empty segment or one of dots",
		"/a/%2e":                           "has an empty segment or one of dots",
		"/{a}" + strings.Repeat("/b", 32):  "has 33 segments, and variables among them; shorten it to at most 32",
		"/" + strings.Repeat("a", MaxText): "has 1025 bytes; shorten it to at most 1024",
	} {
		_, err := ParseEndpoint(pattern)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", pattern, err, says)
			continue
		}
		checkTextError(t, err)
	}
	for _, pattern := range []string{"/{a}" + strings.Repeat("/b", 31), strings.Repeat("/b", 33), "/" + strings.Repeat("a", MaxText-1)} {
		if _, err := ParseEndpoint(pattern); err != nil {
			t.Error(err)
		}
	}
}

func checkTextError(t testing.TB, err error) {
	t.Helper()
	if bad, ok := errors.AsType[*TextError](err); !ok || bad.Problem == "" || bad.Mend == "" {
		t.Errorf("%T without problem and mend: %v", err, err)
	}
}

func TestNoPatternMatchesNothing(t *testing.T) {
	if (EndpointPattern{}).Match("") || (EndpointPattern{}).Match("/") {
		t.Error("the zero value matches")
	}
	if _, ok := (EndpointPattern{}).Exact(); ok {
		t.Error("the zero value has a path")
	}
}

// matchSlowly is Match by a regular expression.
func matchSlowly(pattern, path string) bool {
	pattern, open := strings.CutSuffix(pattern, "*")
	var expression strings.Builder
	for segment := range strings.SplitSeq(pattern[1:], "/") {
		expression.WriteByte('/')
		if strings.HasPrefix(segment, "{") {
			expression.WriteString("[^/]+")
		} else {
			expression.WriteString(regexp.QuoteMeta(string(appendSegment(nil, segment))))
		}
	}
	if !open {
		expression.WriteByte('$')
	}
	return regexp.MustCompile("^" + expression.String()).MatchString(path)
}

func TestPatternsMatchAsRegularExpressions(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "é", "*", "...", "a.b", "aa"})
	rapid.Check(t, func(t *rapid.T) {
		pattern := drawPattern().Draw(t, "pattern")
		p, err := ParseEndpoint(pattern)
		if err != nil {
			t.Fatal(err)
		}
		path := CleanEndpoint("/" + strings.Join(rapid.SliceOfN(segment, 0, 5).Draw(t, "segments"), "/") + rapid.SampledFrom([]string{"", "/"}).Draw(t, "end"))
		if got, want := p.Match(path), matchSlowly(pattern, path); got != want {
			t.Fatalf("%q and %q: got %v", pattern, path, got)
		}
		if n := testing.AllocsPerRun(1, func() { p.Match(path) }); n != 0 {
			t.Fatalf("%v allocations", n)
		}
	})
}
