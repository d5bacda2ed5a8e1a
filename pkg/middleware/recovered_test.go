package middleware

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

// TestRecovered: the log has why and where, and nothing of the client, who gets no answer.
func TestRecovered(t *testing.T) {
	for _, c := range []struct {
		reason any
		logged bool
	}{{"a defect", true}, {http.ErrAbortHandler, false}} {
		log := &testutil.Log{}
		s := httptest.NewServer(Recovered(slog.New(slog.NewTextHandler(log, nil)), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(c.reason) })))
		answer, err := http.Get(s.URL + "/secret")
		if err == nil {
			answer.Body.Close()
			t.Errorf("%v: %s, want the connection cut", c.reason, answer.Status)
		}
		s.Close()
		text := log.String()
		if logged := strings.Contains(text, "a defect") && strings.Contains(text, "recovered_test.go"); logged != c.logged || strings.Contains(text, "127.0.0.1") || strings.Contains(text, "/secret") {
			t.Errorf("%v: log %q", c.reason, text)
		}
	}
}
