package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/weir-limiter/weir/pkg/middleware"
)

// reportEvery is how often the log says that the upstream is away: every request may find it so.
const reportEvery = 10 * time.Second

// reports tells why requests could not be passed on: clients in a few words, and the log.
type reports struct {
	log *slog.Logger

	mu      sync.Mutex // held where a request failed only
	next    time.Time
	omitted int
}

// answer answers a request that could not be passed on.
func (rs *reports) answer(w http.ResponseWriter, r *http.Request, err error) {
	e := exchangeOf(r)
	maps.Copy(w.Header(), e.own)
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &tooLarge):
		writeTooLarge(w, tooLarge.Limit)
	case e.body.stalled():
		w.Header().Set("Connection", "close") // the rest of the body may still come
		middleware.WriteProblem(w, http.StatusRequestTimeout, "the body of the request did not come")
	case errors.Is(context.Cause(r.Context()), context.Canceled):
		// The client went away, or the proxy ends: nobody reads an answer.
		w.WriteHeader(http.StatusBadGateway)
	case errors.As(err, &timeout) && timeout.Timeout():
		rs.report(err)
		middleware.WriteProblem(w, http.StatusGatewayTimeout, "the upstream did not answer in time")
	default:
		rs.report(err)
		middleware.WriteProblem(w, http.StatusBadGateway, "the upstream can't be reached")
	}
}

func writeTooLarge(w http.ResponseWriter, most int64) {
	middleware.WriteProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", most))
}

// report logs an error, unless one was logged just now. It may name the upstream, which the configuration
// does as well, and never a client.
func (rs *reports) report(err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	now := time.Now()
	if now.Before(rs.next) {
		rs.omitted++
		return
	}
	rs.log.Warn("the upstream did not answer (is it running? see server.proxy.upstream)", "error", err, "omitted", rs.omitted)
	rs.next, rs.omitted = now.Add(reportEvery), 0
}
