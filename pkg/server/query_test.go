package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// badChecks are bodies of /v1/check, each with one fault, and what the answer has to say.
func badChecks() []struct{ what, body, field, want string } {
	own := func(key, limit, window, more string) string {
		return fmt.Sprintf(`{"key":%s,"limit":%s,"window":%s%s}`, key, limit, window, more)
	}
	long := strings.Repeat("k", limiter.MaxKey+1)
	return []struct{ what, body, field, want string }{
		{"empty", ``, "", "the body is empty"},
		{"blank", " \n ", "", "the body is empty"},
		{"no JSON", `{"key":`, "", "not JSON at byte 7"},
		{"no JSON at all", `key=user:123`, "", "not JSON at byte 1"},
		{"something behind it", own(`"k"`, "1", `"1h"`, "") + `{}`, "", "not JSON at byte 36"},
		{"no UTF-8", "{\"key\":\"\xff\",\"limit\":1,\"window\":\"1h\"}", "", "not UTF-8"},
		{"too large", own(`"`+strings.Repeat("k", maxCheckBody)+`"`, "1", `"1h"`, ""), "body", "larger than 65536 bytes"},
		{"no object", `[1]`, "body", "want an object, got a list"},
		{"null", `null`, "body", "want an object, got null"},
		{"nothing", `{}`, "key", "is missing"},
		{"unknown field", own(`"k"`, "1", `"1h"`, `,"burst":3`), "burst", "unknown field"},
		{"other capitals", `{"Key":"k","limit":1,"window":"1h"}`, "Key", "unknown field"},
		{"set twice", own(`"k"`, "1", `"1h"`, `,"limit":3`), "limit", "set again"},
		{"null field", own(`null`, "1", `"1h"`, ""), "key", "has no value"},
		{"no key", `{"limit":1,"window":"1h"}`, "key", "is missing"},
		{"empty key", own(`""`, "1", `"1h"`, ""), "key", "is empty"},
		{"number for a key", own(`7`, "1", `"1h"`, ""), "key", "want a text, got 7"},
		{"long key", own(`"`+long+`"`, "1", `"1h"`, ""), "key", "has 1025 bytes"},
		{"control character", own(`"a\nb"`, "1", `"1h"`, ""), "key", "control character at byte 1"},
		{"NUL", own(`"\u0000"`, "1", `"1h"`, ""), "key", "control character at byte 0"},
		{"DEL", own(`"\u007f"`, "1", `"1h"`, ""), "key", "control character"},
		{"no limit", `{"key":"k","window":"1h"}`, "limit", "is missing"},
		{"limit 0", own(`"k"`, "0", `"1h"`, ""), "limit", "must be at least 1"},
		{"negative limit", own(`"k"`, "-1", `"1h"`, ""), "limit", "want a whole number from 0 to 2^64-1, got -1"},
		{"fractional limit", own(`"k"`, "1.5", `"1h"`, ""), "limit", "got 1.5"},
		{"limit with an exponent", own(`"k"`, "1e3", `"1h"`, ""), "limit", "got 1e3"},
		{"text for a limit", own(`"k"`, `"100"`, `"1h"`, ""), "limit", "got a text"},
		{"limit beyond 64 bits", own(`"k"`, "18446744073709551616", `"1h"`, ""), "limit", "want a whole number"},
		{"huge limit", own(`"k"`, "18446744073709551615", `"1h"`, ""), "limit", "more than"},
		{"fast limit", own(`"k"`, "1000000000", `"1s"`, ""), "limit", "100000000"},
		{"no window", `{"key":"k","limit":1}`, "window", "is missing"},
		{"window 0", own(`"k"`, "1", `0`, ""), "window", "must be longer than 0"},
		{"window of no time", own(`"k"`, "1", `"0s"`, ""), "window", "must be longer than 0"},
		{"negative window", own(`"k"`, "1", `"-1h"`, ""), "window", "must not be negative"},
		{"window without a unit", own(`"k"`, "1", `"60"`, ""), "window", "want a duration"},
		{"a million years", own(`"k"`, "1", `"365000000d"`, ""), "window", "too long"},
		{"a million years of seconds", own(`"k"`, "1", `31557600000000`, ""), "window", "too long"},
		{"two hundred years", own(`"k"`, "1", `"73000d"`, ""), "limit", "slower than the slowest rate"},
		{"window as an object", own(`"k"`, "1", `{}`, ""), "window", "got an object"},
		{"two windows", own(`"k"`, "1", `"1h"`, `,"window_seconds":3600`), "window_seconds", "beside window"},
		{"text for seconds", `{"key":"k","limit":1,"window_seconds":"60"}`, "window_seconds", "got a text"},
		{"hits over the burst", own(`"k"`, "10", `"1h"`, `,"hits":11`), "hits", "asks for 11, and a full bucket holds 10"},
		{"negative hits", own(`"k"`, "10", `"1h"`, `,"hits":-1`), "hits", "got -1"},
		{"true hits", own(`"k"`, "10", `"1h"`, `,"hits":true`), "hits", "got true"},
		{"both", own(`"k"`, "1", `"1h"`, `,"context":{}`), "limit", "beside context"},
		{"context as a text", `{"context":"x"}`, "context", "want an object, got a text"},
		{"unknown field of the context", `{"context":{"ip":"192.0.2.1"}}`, "context.ip", "unknown field"},
		{"bad address", `{"context":{"client_ip":"192.0.2.256"}}`, "context.client_ip", "want an IP address"},
		{"empty address", `{"context":{"client_ip":""}}`, "context.client_ip", "want an IP address"},
		{"prefix for an address", `{"context":{"client_ip":"192.0.2.0/24"}}`, "context.client_ip", "want an IP address"},
		{"address with a port", `{"context":{"client_ip":"192.0.2.1:80"}}`, "context.client_ip", "want an IP address"},
		{"address with a zone", `{"context":{"client_ip":"fe80::1%eth0"}}`, "context.client_ip", "has a zone"},
		{"number for an address", `{"context":{"client_ip":1}}`, "context.client_ip", "want a text"},
		{"long user", `{"context":{"user_id":"` + long + `"}}`, "context.user_id", "has 1025 bytes"},
		{"user with a line feed", `{"context":{"user_id":"a\nb"}}`, "context.user_id", "control character"},
		{"long role", `{"context":{"user_role":"` + long + `"}}`, "context.user_role", "has 1025 bytes"},
		{"long endpoint", `{"context":{"endpoint":"/` + long + `"}}`, "context.endpoint", "has 1026 bytes"},
		{"long API key", `{"context":{"api_key":"` + long + `"}}`, "context.api_key", "has 1025 bytes"},
		{"API key with a control character", `{"context":{"api_key":"a\tb"}}`, "context.api_key", "control character"},
		{"request id with a control character", `{"context":{"request_id":"a\tb"}}`, "context.request_id", "control character"},
		{"metadata as a list", `{"context":{"metadata":[]}}`, "context.metadata", "want an object, got a list"},
		{"number in metadata", `{"context":{"metadata":{"a":1}}}`, `context.metadata["a"]`, "want a text, got 1"},
		{"metadata twice", `{"context":{"metadata":{"a":"1","a":"2"}}}`, `context.metadata["a"]`, "set again"},
		{"long metadata", `{"context":{"metadata":{"a":"` + long + `"}}}`, `context.metadata["a"]`, "has 1025 bytes"},
		{"much metadata", `{"context":{"metadata":{` + manyFields(65) + `}}}`, "context.metadata", "has 65"},
		{"hits over a policy's burst", `{"context":{"user_id":"ann"},"hits":6}`, "hits", "asks for 6, and a full bucket of policy user holds 5"},
	}
}

func manyFields(n int) string {
	fields := make([]string, n)
	for i := range fields {
		fields[i] = fmt.Sprintf(`"f%d":"x"`, i)
	}
	return strings.Join(fields, ",")
}

// TestBadChecks: each is answered with 400, what and where, and charges nothing.
func TestBadChecks(t *testing.T) {
	t.Parallel()
	r, l := startLimiter(t, `{"policies":[{"name":"user","scope":"per_user","limit":5,"window":"1h"},{"name":"all","scope":"global","layer":"l7","limit":100,"window":"1h"}]}`)
	for _, c := range badChecks() {
		answer, body := r.send(t, "POST", "/v1/check", c.body, nil)
		p := wantProblem(t, c.what, answer, body, 400, c.want)
		var fields []string
		for _, f := range p.Errors {
			fields = append(fields, f.Field)
		}
		if c.field != "" && (len(fields) == 0 || fields[0] != c.field) || c.field == "" && fields != nil {
			t.Errorf("%s: fields %q, want %q: %s", c.what, fields, c.field, body)
		}
		if strings.Contains(body, "kkkkk") {
			t.Errorf("%s: the answer repeats what was sent: %s", c.what, body)
		}
	}
	for _, c := range []struct{ policy, key string }{{"user", "ann"}, {"all", limiter.GlobalKey}} {
		if s, err := l.Bucket(c.policy, c.key); err != nil || s.Remaining != s.Burst {
			t.Errorf("policy %s: %+v, %v, want a full bucket", c.policy, s, err)
		}
	}
	if a := r.check(t, `{"key":"k","limit":10,"window":"1h"}`); a.Remaining != 9 {
		t.Errorf("remaining %d, want the other 9", a.Remaining)
	}
}

// All that is wrong with a body is told at once, but no more than a few faults.
func TestBadCheckTellsAll(t *testing.T) {
	t.Parallel()
	_, err := decodeQuery([]byte(`{"key":1,"limit":"x","window":[],"hits":-1,"context":{"client_ip":"x","user":"y"}}`))
	var p *Problem
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	var fields []string
	for _, f := range p.Errors {
		fields = append(fields, f.Field)
	}
	if got := strings.Join(fields, " "); got != "key limit window hits context.client_ip context.user" {
		t.Errorf("fields %s", got)
	}
	_, err = decodeQuery([]byte(`{` + manyFields(1000) + `}`))
	if !errors.As(err, &p) || len(p.Errors) != maxFaults {
		t.Errorf("%d faults, want %d", len(p.Errors), maxFaults)
	}
}

func TestGoodChecks(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]limiter.Query{
		` {"key":"k","limit":1,"window":"1d12h"} `:        {Key: "k", Limit: 1, Window: 36 * time.Hour, Hits: 1},
		`{"key":"k","limit":1,"window":90,"hits":0}`:      {Key: "k", Limit: 1, Window: 90 * time.Second},
		`{"key":"\u00e4\"","limit":1,"window_seconds":1}`: {Key: `ä"`, Limit: 1, Window: time.Second, Hits: 1},
		`{"context":{}}`: {Request: &limiter.RequestContext{}, Hits: 1},
		`{"context":{"user_id":"","api_key":""},"hits":2}`:     {Request: &limiter.RequestContext{}, Hits: 2},
		`{"key":"k","context":{"method":"get","api_key":"x"}}`: {Key: "k", Request: &limiter.RequestContext{Method: "GET", APIKey: identity.HashAPIKey("x")}, Hits: 1},
		`{"context":{"metadata":{"a":"1","":"2"}}}`:            {Request: &limiter.RequestContext{Metadata: map[string]string{"a": "1", "": "2"}}, Hits: 1},
	} {
		got, err := decodeQuery([]byte(body))
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *limiter.Rule) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", body, err, diff)
		}
	}
}

// endless is a body that never ends: it must be refused when it has become too large.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

func TestBodyWithoutEnd(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, noPolicies)
	body := &endless{}
	answer, err := r.client.Post(r.url+"/v1/check", "application/json", io.NopCloser(body))
	if err != nil {
		t.Fatal(err) // it is answered before the connection is closed
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	wantProblem(t, "endless", answer, string(text), http.StatusBadRequest, "larger than 65536 bytes")
}

// FuzzDecodeQuery: whatever is sent, there is a problem of status 400, or a query that the limiter takes or
// refuses with a field.
func FuzzDecodeQuery(f *testing.F) {
	for _, c := range badChecks() {
		if len(c.body) < maxCheckBody { // which takes all of the time
			f.Add([]byte(c.body))
		}
	}
	f.Add([]byte(`{"key":"k","limit":1,"window":"1h","hits":2}`))
	f.Add([]byte(`{"context":{"client_ip":"2001:db8::1","method":"GET","endpoint":"/a//b/../c?d","metadata":{"tenant":"acme"}}}`))
	l := newLimiter(f, threePolicies)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := decodeQuery(data)
		if err != nil {
			if p := problemOf(err); p.Status != http.StatusBadRequest || len(p.Errors) > maxFaults {
				t.Fatalf("%q: %d with %d faults: %v", data, p.Status, len(p.Errors), err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is no JSON, and was read", data)
		}
		if (q.Request != nil) == (q.Limit != 0) {
			t.Fatalf("%q: %+v, want a context or a limit", data, q)
		}
		if _, err := l.Check(t.Context(), q); err != nil && problemOf(err).Status != http.StatusBadRequest {
			t.Fatalf("%q: %v", data, err)
		}
	})
}
