package middleware

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/limiter"
)

func TestHeadersOfEachDialect(t *testing.T) {
	x := map[string]string{
		"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "999", "X-RateLimit-Policy": "api_v2",
		"X-RateLimit-Reset": "1774008004", // 12:00:00.001 and 3.6 s
	}
	ietf := map[string]string{"RateLimit-Policy": `"api_v2";q=1000;w=3600`, "RateLimit": `"api_v2";r=999;t=4`}
	for _, c := range []struct {
		dialect Dialect
		want    []map[string]string
	}{
		{"", []map[string]string{x}}, {XRateLimit, []map[string]string{x}}, {IETF, []map[string]string{ietf}},
		{Both, []map[string]string{x, ietf}}, {Off, nil},
	} {
		h, want, res := http.Header{}, http.Header{}, allowed()
		c.dialect.Set(h, &res, noon)
		for _, some := range c.want {
			for name, value := range some {
				want.Set(name, value)
			}
		}
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.dialect, diff)
		}
	}
}

func TestHeadersOfUnusualResults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*limiter.Result)
		want   map[string]string // "": is not there
	}{
		"no policy decided": {func(r *limiter.Result) { *r = limiter.Result{Allowed: true} }, map[string]string{
			"X-RateLimit-Limit": "", "X-RateLimit-Reset": "", "RateLimit": "", "RateLimit-Policy": "", "X-RateLimit-Shadow": ""}},
		"a limit of the question": {func(r *limiter.Result) { r.Policy = "" }, map[string]string{
			"X-RateLimit-Limit": "1000", "X-RateLimit-Policy": "", "RateLimit": `"default";r=999;t=4`}},
		"a window of no whole second": {func(r *limiter.Result) { r.Window = 1500 * time.Millisecond }, map[string]string{
			"RateLimit-Policy": `"api_v2";q=1000`}},
		"shadow": {func(r *limiter.Result) { r.Shadow = "next" }, map[string]string{"X-RateLimit-Shadow": "next"}},
		"quotes": {func(r *limiter.Result) { r.Policy = `a"b\c` }, map[string]string{
			"X-RateLimit-Policy": `a"b\c`, "RateLimit": `"a\"b\\c";r=999;t=4`}},
		"injection": {func(r *limiter.Result) { r.Policy = "a\r\nSet-Cookie: b=ü" }, map[string]string{
			"X-RateLimit-Policy": "a??Set-Cookie: b=??", "RateLimit": `"a??Set-Cookie: b=??";r=999;t=4`}},
		"integers too long for a structured field": {func(r *limiter.Result) {
			r.Limit, r.Remaining, r.ResetAfter = math.MaxUint64, math.MaxUint64, limiter.Never
		}, map[string]string{
			"X-RateLimit-Limit": "18446744073709551615", "X-RateLimit-Reset": "10997380037",
			"RateLimit-Policy": `"api_v2";q=999999999999999;w=3600`, "RateLimit": `"api_v2";r=999999999999999;t=9223372037`}},
		"headers of the policy come last": {func(r *limiter.Result) {
			r.Headers = []limiter.Header{{Name: "X-Ratelimit-Policy", Value: "gold"}, {Name: "X-Tier", Value: "1"}}
		}, map[string]string{"X-RateLimit-Policy": "gold", "X-Tier": "1", "RateLimit": `"api_v2";r=999;t=4`}},
	} {
		t.Run(name, func(t *testing.T) {
			h, res := http.Header{}, allowed()
			c.change(&res)
			Both.Set(h, &res, noon)
			for name, want := range c.want {
				if got := strings.Join(h.Values(name), " and "); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
		})
	}
}

func TestSetReplaces(t *testing.T) {
	h, res := http.Header{}, allowed()
	h["X-Ratelimit-Limit"] = []string{"7", "8"}
	res.Headers = []limiter.Header{{Name: "X-Tier", Value: "1"}}
	XRateLimit.Set(h, &res, noon)
	h.Add("X-RateLimit-Limit", "9") // must not reach the value beside it
	if got := h["X-Ratelimit-Limit"]; !cmp.Equal(got, []string{"1000", "9"}) || h.Get("X-RateLimit-Remaining") != "999" {
		t.Errorf("%v", h)
	}
}

func TestOffStillHasWhatThePolicyAsksFor(t *testing.T) {
	h, res := http.Header{}, allowed()
	res.Shadow, res.Headers = "next", []limiter.Header{{Name: "X-Tier", Value: "1"}}
	Off.Set(h, &res, noon)
	if !cmp.Equal(h, http.Header{"X-Tier": {"1"}}) {
		t.Errorf("%v", h)
	}
}

// TestStructuredFields compares what is written with what the library writes, and has it read it, for any result.
func TestStructuredFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		res := limiter.Result{
			Policy: rapid.OneOf(rapid.StringMatching(`[a-z0-9_-]{1,63}`), rapid.StringMatching(`[ -~]{1,300}`), rapid.String()).Draw(t, "policy"),
			Limit:  rapid.Uint64Min(1).Draw(t, "limit"), Remaining: rapid.Uint64().Draw(t, "remaining"),
			Window:     time.Duration(rapid.Int64Range(1, 1<<33).Draw(t, "window")) * time.Second,
			ResetAfter: time.Duration(rapid.Int64Min(0).Draw(t, "reset")),
		}
		h := http.Header{}
		IETF.Set(h, &res, noon)
		for header, parameters := range map[string]map[string]uint64{
			"RateLimit-Policy": {"q": res.Limit, "w": uint64(res.Window / time.Second)},
			"RateLimit":        {"r": res.Remaining, "t": uint64(math.Ceil(res.ResetAfter.Seconds()))},
		} {
			checkField(t, h.Values(header), res.Policy, parameters)
		}
	})
}

func checkField(t *rapid.T, values []string, policy string, parameters map[string]uint64) {
	list, err := httpsfv.UnmarshalList(values)
	if err != nil || len(list) != 1 {
		t.Fatalf("%q: %v: %d members", values, err, len(list))
	}
	item := list[0].(httpsfv.Item)
	name := item.Value.(string)
	if policy != "" && len(name) != min(len(policy), maxName) {
		t.Fatalf("%q became %q", policy, name)
	}
	for i := range len(name) {
		if policy != "" && name[i] != policy[i] && (name[i] != '?' || policy[i] >= ' ' && policy[i] <= '~') {
			t.Fatalf("%q became %q", policy, name)
		}
	}
	for key, want := range parameters {
		got, _ := item.Params.Get(key)
		if got != int64(min(want, maxInteger)) {
			t.Fatalf("%q: %s=%v, want %d", values, key, got, want)
		}
	}
	if len(item.Params.Names()) != len(parameters) {
		t.Fatalf("%q: parameters %v", values, item.Params.Names())
	}
	if again, err := httpsfv.Marshal(list); err != nil || again != values[0] {
		t.Fatalf("%q: the library writes %q: %v", values, again, err)
	}
}

func TestParseDialect(t *testing.T) {
	for _, d := range Dialects() {
		if got, err := ParseDialect(string(d)); got != d || err != nil {
			t.Errorf("%s: %s, %v", d, got, err)
		}
	}
	if got, err := ParseDialect(""); got != XRateLimit || err != nil {
		t.Errorf("no name: %s, %v", got, err)
	}
	const want = `unknown dialect of rate limit headers "x" (use one of x-ratelimit, ietf, both, off)`
	if _, err := ParseDialect("x"); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func BenchmarkSet(b *testing.B) {
	for _, d := range Dialects() {
		b.Run(string(d), func(b *testing.B) {
			b.ReportAllocs()
			h, res := http.Header{}, allowed()
			for b.Loop() {
				d.Set(h, &res, noon)
			}
		})
	}
}

func TestSetAllocatesWhatItMust(t *testing.T) {
	for _, d := range Dialects() {
		h, res, want := http.Header{}, allowed(), 2.0
		if d == Off {
			want = 0
		}
		if got := testing.AllocsPerRun(100, func() { d.Set(h, &res, noon) }); got != want {
			t.Errorf("%s: %v allocations, want %v", d, got, want)
		}
	}
}

func TestResetUnix(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name string
		now  time.Time
		left time.Duration
		want int64
	}{
		{"a window that ends at a whole second", at, 5 * time.Second, 1_800_000_005},
		{"its answer is written some time after the decision", at.Add(3 * time.Millisecond), 5 * time.Second, 1_800_000_005},
		{"rounded up", at, 5*time.Second + 100*time.Millisecond, 1_800_000_006},
		{"nothing is missing", at, 0, 1_800_000_000},
	} {
		if got := ResetUnix(&limiter.Result{ResetAfter: c.left}, c.now); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
