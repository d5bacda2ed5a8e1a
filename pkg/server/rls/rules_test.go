package rls

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

const (
	ok   = "OK: OK"
	over = "OVER_LIMIT: OVER_LIMIT"
)

func TestFixedWindow(t *testing.T) {
	s := configured(t, "basic", nil)
	req := request("shop", descriptor("tier", "gold", "user", "ann"))
	for i := range 5 {
		st := s.expect(t, ok, req).GetStatuses()[0]
		l := st.GetCurrentLimit()
		if l.GetRequestsPerUnit() != 5 || l.GetUnit() != pb.RateLimitResponse_RateLimit_SECOND || l.GetName() != "" ||
			st.GetLimitRemaining() != uint32(4-i) || st.GetDurationUntilReset().AsDuration() != time.Second {
			t.Errorf("%d: %v", i, st)
		}
	}
	if st := s.expect(t, over, req).GetStatuses()[0]; st.GetLimitRemaining() != 0 || st.GetCurrentLimit().GetRequestsPerUnit() != 5 {
		t.Errorf("%v", st)
	}
	s.expect(t, ok, request("shop", descriptor("tier", "gold", "user", "bob")))
	s.now.advance(t, time.Second)
	s.expect(t, ok, req)
}

// TestWindowsAreAligned: the clock begins 10 s before the end of a minute.
func TestWindowsAreAligned(t *testing.T) {
	s := configured(t, "basic", nil)
	req := request("shop", worth(20, descriptor("path", "/x")))
	if st := s.expect(t, ok, req).GetStatuses()[0]; st.GetDurationUntilReset().AsDuration() != 10*time.Second {
		t.Errorf("%v", st)
	}
	s.expect(t, over, req)
	s.now.advance(t, 10*time.Second)
	s.expect(t, ok, req)
}

func TestEveryUnitCounts(t *testing.T) {
	s := serve(t, nil)
	var file strings.Builder
	file.WriteString("domain: d\ndescriptors:\n")
	for _, u := range rules.Units() {
		file.WriteString("  - {key: " + u.String() + ", rate_limit: {unit: " + u.String() + ", requests_per_unit: 3}}\n")
	}
	if err := s.SetConfig(parse(t, file.String())); err != nil {
		t.Fatal(err)
	}
	for _, u := range rules.Units() {
		req := request("d", descriptor(u.String(), "x"))
		for range 3 {
			s.expect(t, ok, req)
		}
		st := s.expect(t, over, req).GetStatuses()[0]
		left := rules.Window(u) - s.now.now().Unix%rules.Window(u)
		if st.GetCurrentLimit().GetUnit() != u || st.GetDurationUntilReset().AsDuration() != left {
			t.Errorf("%v: %v, want %v left", u, st, left)
		}
		// A year is longer than the table keeps what nobody asks for.
		for rest := left - time.Second; rest > 0; rest -= 90 * 24 * time.Hour {
			s.now.advance(t, min(rest, 90*24*time.Hour))
			s.expect(t, over, req)
		}
		s.now.advance(t, time.Second)
		s.expect(t, ok, req)
	}
}

func TestNoLimit(t *testing.T) {
	s := configured(t, "basic", nil)
	st := s.expect(t, "OK: OK OK OK", request("shop", descriptor("nobody", "x"), descriptor(), descriptor("path", "/health")))
	for _, st := range st.GetStatuses() {
		if st.GetCurrentLimit() != nil || st.GetLimitRemaining() != 0 || st.GetDurationUntilReset() != nil {
			t.Errorf("%v", st)
		}
	}
	un := s.expect(t, ok, request("shop", descriptor("free", "x"))).GetStatuses()[0]
	if un.GetCurrentLimit() != nil || un.GetLimitRemaining() != math.MaxUint32 {
		t.Errorf("unlimited: %v", un)
	}
}

func TestUnknownDomain(t *testing.T) {
	s := configured(t, "basic", nil)
	for range 3 {
		s.expect(t, "OK: OK OK", request("elsewhere", descriptor("path", "/x"), worth(1000, descriptor("day", "x"))))
	}
	if n := strings.Count(s.log.String(), "elsewhere"); n != 1 || s.UnknownDomains() != 3 {
		t.Errorf("logged %d times, counted %d: %s", n, s.UnknownDomains(), s.log)
	}
	for i := range 2 * maxUnknown {
		s.expect(t, ok, request(strings.Repeat("x", i+1), descriptor("path", "/x")))
	}
	if n := strings.Count(s.log.String(), "\n"); n != maxUnknown {
		t.Errorf("%d lines in the log", n)
	}
}

// TestAllOrNothing is where weir differs from envoyproxy/ratelimit, which charges every descriptor.
func TestAllOrNothing(t *testing.T) {
	s := configured(t, "basic", nil)
	one, other := descriptor("day", "x"), descriptor("path", "/x")
	s.expect(t, "OK: OK OK", request("shop", one, other))
	for range 10 {
		st := s.expect(t, "OVER_LIMIT: OVER_LIMIT OK", request("shop", one, other)).GetStatuses()
		if st[0].GetLimitRemaining() != 0 || st[1].GetCurrentLimit().GetRequestsPerUnit() != 20 || st[1].GetLimitRemaining() != 19 {
			t.Errorf("%v", st)
		}
		s.expect(t, "OVER_LIMIT: OK OVER_LIMIT", request("shop", other, one))
	}
	if st := s.expect(t, ok, request("shop", other)).GetStatuses()[0]; st.GetLimitRemaining() != 18 {
		t.Errorf("a denied request was charged: %v", st)
	}
}

func TestHits(t *testing.T) {
	s := configured(t, "basic", nil)
	path := func() *pbDescriptor { return descriptor("path", "/x") }
	remaining := func(want uint32, req *pb.RateLimitRequest) {
		t.Helper()
		if st := s.expect(t, ok, req).GetStatuses()[0]; st.GetLimitRemaining() != want {
			t.Errorf("%v: %v, want %d left", req, st, want)
		}
	}
	req := request("shop", path())
	req.HitsAddend = 5
	remaining(15, req)
	req.HitsAddend = 0
	remaining(14, req)
	remaining(12, request("shop", worth(2, path())))
	own := request("shop", worth(3, path()))
	own.HitsAddend = 11
	remaining(9, own)
	remaining(9, request("shop", worth(0, path())))
	remaining(9, request("shop", worth(0, path())))
	s.expect(t, over, request("shop", worth(10, path())))
	s.expect(t, over, request("shop", worth(21, path())))
	s.expect(t, over, request("shop", worth(math.MaxUint64, path())))
	remaining(0, request("shop", worth(9, path())))
	s.expect(t, over, request("shop", worth(0, path())))
}

func TestModes(t *testing.T) {
	s := configured(t, "modes", nil)
	shadow, quota, banned, real := descriptor("shadow", "x"), descriptor("quota", "x"), descriptor("banned", "x"), descriptor("real", "x")
	for i := range 4 {
		resp := s.expect(t, "OK: OK OK", request("modes", shadow, quota))
		want := uint32(max(0, 1-i))
		if st := resp.GetStatuses(); st[0].GetLimitRemaining() != want || st[1].GetLimitRemaining() != want || st[1].GetCurrentLimit().GetName() != "quota" {
			t.Errorf("%d: %v", i, resp)
		}
		if told := resp.GetDynamicMetadata() != nil; told != (i >= 2) {
			t.Errorf("%d: metadata %v", i, resp.GetDynamicMetadata())
		}
	}
	if m := s.ask(t, request("modes", shadow, quota)).GetDynamicMetadata().AsMap(); m["quotaModeEnabled"] != true || m["quotaModeViolations"].([]any)[0] != 1.0 {
		t.Errorf("%v", m)
	}
	s.expect(t, over, request("modes", banned))
	s.expect(t, ok, request("modes", worth(0, descriptor("banned", "x"))))
	// What is banned charges nobody else, and what is in shadow holds nobody up.
	s.expect(t, "OVER_LIMIT: OK OVER_LIMIT OK", request("modes", real, banned, shadow))
	for range 3 {
		s.expect(t, "OK: OK OK", request("modes", shadow, real))
	}
	s.expect(t, "OVER_LIMIT: OK OVER_LIMIT", request("modes", shadow, real))
}

func TestReplaces(t *testing.T) {
	s := configured(t, "modes", nil)
	broad, narrow, pass := descriptor("broad", "x"), descriptor("narrow", "x"), descriptor("pass", "x")
	for range 3 { // broad holds 1
		st := s.expect(t, "OK: OK OK", request("modes", broad, narrow)).GetStatuses()
		if st[0].GetCurrentLimit() != nil || st[1].GetCurrentLimit().GetName() != "narrow" {
			t.Errorf("%v", st)
		}
		s.expect(t, "OK: OK OK", request("modes", pass, broad))
	}
	s.expect(t, ok, request("modes", broad))
	s.expect(t, over, request("modes", broad))
}

func TestGlobalShadow(t *testing.T) {
	s := configured(t, "modes", func(o *Options) { o.Shadow = true })
	banned, real := descriptor("banned", "x"), descriptor("real", "x")
	for range 3 {
		s.expect(t, "OK: OVER_LIMIT OK", request("modes", banned, real))
	}
	s.expect(t, "OK: OVER_LIMIT OVER_LIMIT", request("modes", banned, real))
}

func TestOverride(t *testing.T) {
	s := configured(t, "basic", nil)
	with := func(n uint32, u typev3.RateLimitUnit, multiple uint32) *pb.RateLimitRequest {
		d := descriptor("path", "/login")
		d.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: n, Unit: u}
		if multiple != 1 {
			d.Limit.UnitMultiplier = wrapperspb.UInt32(multiple)
		}
		return request("shop", d)
	}
	for i := range 2 {
		st := s.expect(t, ok, with(2, typev3.RateLimitUnit_DAY, 1)).GetStatuses()[0]
		if st.GetCurrentLimit().GetRequestsPerUnit() != 2 || st.GetCurrentLimit().GetUnit() != pb.RateLimitResponse_RateLimit_DAY || st.GetLimitRemaining() != uint32(1-i) {
			t.Errorf("%v", st)
		}
	}
	s.expect(t, over, with(2, typev3.RateLimitUnit_DAY, 1))
	s.expect(t, ok, with(3, typev3.RateLimitUnit_DAY, 1)) // the count goes on
	s.expect(t, over, with(3, typev3.RateLimitUnit_DAY, 1))
	s.expect(t, over, with(0, typev3.RateLimitUnit_DAY, 1))
	st := s.expect(t, ok, with(7, typev3.RateLimitUnit_SECOND, 30)).GetStatuses()[0]
	if st.GetCurrentLimit().GetUnitMultiplier().GetValue() != 30 || st.GetDurationUntilReset().AsDuration() != 10*time.Second {
		t.Errorf("%v", st)
	}
	s.expect(t, ok, request("shop", descriptor("path", "/login"))) // that of the file has its own
	for n := range uint32(2 * maxOverrides) {
		s.ask(t, with(n+1, typev3.RateLimitUnit_YEAR, 1))
	}
	if n := len(*s.overrides.known.Load()); n > maxOverrides {
		t.Errorf("%d limits are kept", n)
	}
	s.refused(t, "descriptors[0].limit: no window of 1 times unit 0", with(1, typev3.RateLimitUnit_UNKNOWN, 1))
	s.refused(t, "descriptors[0].limit: no window of 0 times unit 1", with(1, typev3.RateLimitUnit_SECOND, 0))
	s.refused(t, "descriptors[0].limit: no window of 4294967295 times", with(1, typev3.RateLimitUnit_YEAR, math.MaxUint32))
}

// TestOddValues: whatever a stranger sends, it is limited, and has a bucket of its own.
func TestOddValues(t *testing.T) {
	s := configured(t, "basic", nil)
	long := strings.Repeat("x", 5000)
	for _, value := range []string{"", "*", "*sha256:", "\x00", "\n", "\x7f", "\u0085", long, long + "y", "é", strings.Repeat("é", 700)} {
		req := request("shop", descriptor("day", value))
		s.expect(t, ok, req)
		s.expect(t, over, req)
	}
}

func TestSetConfigKeepsCounts(t *testing.T) {
	s := configured(t, "basic", nil)
	kept, changed := request("shop", worth(20, descriptor("path", "/x"))), request("shop", descriptor("day", "x"))
	s.expect(t, ok, kept)
	s.expect(t, ok, changed)
	set := parse(t, `domain: shop
descriptors:
  - key: new
    rate_limit: {unit: hour, requests_per_unit: 1}
  - key: path
    rate_limit: {unit: minute, requests_per_unit: 21}
  - key: day
    rate_limit: {unit: hour, requests_per_unit: 1}
`)
	if err := s.SetConfig(set); err != nil {
		t.Fatal(err)
	}
	s.expect(t, over, kept)
	s.expect(t, ok, request("shop", descriptor("path", "/x")))
	s.expect(t, over, request("shop", descriptor("path", "/x")))
	s.expect(t, ok, changed) // another unit is another count
	s.expect(t, "OK: OK OK", request("shop", descriptor("path", "/login"), descriptor("free", "x")))
	if err := s.SetConfig(nil); err != nil {
		t.Fatal(err)
	}
	s.expect(t, ok, kept) // which is an unknown domain now
}

func TestHeaders(t *testing.T) {
	s := configured(t, "modes", func(o *Options) {
		o.Headers = func(h http.Header, r *limiter.Result) {
			h.Set("X-B", r.Policy)
			h.Set("X-A", time.Duration(r.Limit).String())
		}
	})
	tell := func(req *pb.RateLimitRequest) (text string) {
		t.Helper()
		for _, h := range s.ask(t, req).GetResponseHeadersToAdd() {
			text += h.GetKey() + "=" + h.GetValue() + " "
		}
		return text
	}
	broad, narrow, real := descriptor("broad", "x"), descriptor("narrow", "x"), descriptor("real", "x")
	if got := tell(request("modes", narrow, real)); !strings.HasPrefix(got, "X-A=3ns X-B=rls-modes-real-") {
		t.Errorf("the fewest left: %q", got)
	}
	if got := tell(request("modes", worth(100, narrow), real)); got != "X-A=5ns X-B=narrow " {
		t.Errorf("the one that denies: %q", got)
	}
	if got := tell(request("modes", broad)); got != "X-A=1ns X-B=broad " {
		t.Errorf("%q", got)
	}
	if got := tell(request("modes", descriptor("pass", "x"), descriptor("shadow", "x"))); got != "" {
		t.Errorf("headers without a limit: %q", got)
	}
	if got := tell(request("modes", descriptor("banned", "x"))); !strings.HasPrefix(got, "X-A=0s X-B=rls-modes-banned-") {
		t.Errorf("%q", got)
	}
}
