package middleware

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func deny(res limiter.Result, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	WriteDenied(w, r, XRateLimit, &res, noon)
	return w
}

// TestDeniedAsRequired checks the answer that the requirements show, to the byte.
func TestDeniedAsRequired(t *testing.T) {
	want, err := os.ReadFile("testdata/denied.json")
	if err != nil {
		t.Fatal(err)
	}
	w := deny(exceeded(), "")
	var body ErrorBody
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if w.Code != http.StatusTooManyRequests {
		t.Errorf("status %d", w.Code)
	}
	wantHeader := http.Header{
		"X-Ratelimit-Limit": {"1000"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"1774011600"}, "X-Ratelimit-Policy": {"api_v2"},
		"Retry-After": {"300"}, "Content-Type": {"application/json"}, "X-Content-Type-Options": {"nosniff"}, "Cache-Control": {"no-store"},
	}
	if diff := cmp.Diff(wantHeader, w.Header()); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestDeniedAsProblem(t *testing.T) {
	w := deny(exceeded(), "application/problem+json")
	const want = `{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"rate limit exceeded: retry after 300 seconds",` +
		`"limit":1000,"window_seconds":3600,"retry_after_seconds":300,"policy":"api_v2"}` + "\n"
	if got := w.Body.String(); got != want || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v %s", w.Header(), got)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		wait, window time.Duration
		want         uint64
		says         string
	}{
		{0, time.Hour, 1, "Wait 1 second before retrying"},
		{1, time.Hour, 1, "Wait 1 second before retrying"},
		{time.Second, time.Hour, 1, "Wait 1 second before retrying"},
		{time.Second + 1, time.Hour, 2, "Wait 2 seconds before retrying"},
		{limiter.Never - 1, time.Hour, 9223372037, "Wait 9223372037 seconds before retrying"},
		{limiter.Never, time.Minute, 60, "Ask for at most 1000 at once"},
		{limiter.Never, time.Millisecond, 1, "Ask for at most 1000 at once"},
	} {
		res := exceeded()
		res.RetryAfter, res.Window = c.wait, c.window
		body := NewErrorBody(&res)
		if got := RetryAfter(&res); got != c.want || body.Error.Details.RetryAfterSeconds != c.want || body.Error.RecoverySuggestions[0] != c.says {
			t.Errorf("%s in %s: %d, %+v", c.wait, c.window, got, body)
		}
	}
}

func TestDeniedByAList(t *testing.T) {
	for _, list := range []policy.List{policy.ListDeny, policy.ListBan} {
		for accept, want := range map[string]string{
			"":                         `{"error":{"code":"ACCESS_DENIED","message":"Access denied","details":{"limit":0,"window_seconds":0,"retry_after_seconds":0,"policy":""},"recovery_suggestions":["Ask the operator of this service to let your address in"]}}`,
			"application/problem+json": `{"type":"about:blank","title":"Forbidden","status":403,"detail":"access denied","limit":0,"window_seconds":0,"retry_after_seconds":0,"policy":""}`,
		} {
			w := deny(limiter.Result{List: list, RetryAfter: limiter.Never}, accept)
			if w.Code != http.StatusForbidden || w.Body.String() != want+"\n" || w.Header().Get("Retry-After") != "" || w.Header().Get("X-RateLimit-Limit") != "" {
				t.Errorf("%s: %d %v %s", list, w.Code, w.Header(), w.Body)
			}
		}
	}
}

func TestDeniedWithAnotherStatus(t *testing.T) {
	w, res := httptest.NewRecorder(), exceeded()
	WriteDeniedAs(w, httptest.NewRequest(http.MethodGet, "/", nil), http.StatusForbidden, XRateLimit, &res, noon)
	if w.Code != http.StatusForbidden || w.Header().Get("Retry-After") != "300" || !strings.Contains(w.Body.String(), CodeExceeded) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestBodiesAreWhatTheirTypesSay compares what is written by hand with encoding/json.
func TestBodiesAreWhatTheirTypesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		res := limiter.Result{
			Policy: rapid.OneOf(rapid.StringMatching(`[ -~]{0,300}`), rapid.String()).Draw(t, "policy"), Limit: rapid.Uint64().Draw(t, "limit"),
			Window: time.Duration(rapid.Int64Min(0).Draw(t, "window")), RetryAfter: time.Duration(rapid.Int64Min(0).Draw(t, "wait")),
		}
		body, problem := NewErrorBody(&res), newProblem(&res, 429)
		for _, c := range []struct {
			value any
			got   []byte
		}{{body, append(body.AppendJSON(nil), '\n')}, {problem, appendProblem(nil, problem)}} {
			want, err := json.Marshal(c.value)
			if err != nil || string(c.got) != string(want)+"\n" {
				t.Fatalf("%s, want %s: %v", c.got, want, err)
			}
		}
	})
}

func TestWriteProblem(t *testing.T) {
	w := httptest.NewRecorder()
	WriteProblem(w, http.StatusBadGateway, `no "answer"`)
	const want = `{"type":"about:blank","title":"Bad Gateway","status":502,"detail":"no \"answer\""}` + "\n"
	if w.Code != 502 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func BenchmarkWriteDenied(b *testing.B) {
	for name, accept := range map[string]string{"json": "*/*", "problem": "application/problem+json"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r, w, res := httptest.NewRequest(http.MethodGet, "/", nil), nowhere{http.Header{}}, exceeded()
			r.Header.Set("Accept", accept)
			for b.Loop() {
				WriteDenied(w, r, XRateLimit, &res, noon)
			}
		})
	}
}

// nowhere is a ResponseWriter that costs nothing.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}
