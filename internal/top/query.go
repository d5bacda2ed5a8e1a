package top

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// ErrQuery says that a query asks for what there is not.
var ErrQuery = errors.New("query")

const (
	defaultN      = 20
	defaultWindow = 5 * time.Second
	maxWindow     = Seconds * time.Second
)

// Query says what a report is to show.
type Query struct {
	N      int           // sources in each list; 0: 20
	By     By            // empty: passed
	Window time.Duration // what the rates are means of, in whole seconds; 0: 5 s
}

// Check completes a query, and refuses one that can't be answered.
func (q Query) Check() (Query, error) {
	if q.N == 0 {
		q.N = defaultN
	}
	if q.By == "" {
		q.By = ByPassed
	}
	if q.Window == 0 {
		q.Window = defaultWindow
	}
	switch {
	case q.By != ByPassed && q.By != ByDropped && q.By != ByBytes:
		return q, fmt.Errorf("%w: by %q: want passed, dropped or bytes", ErrQuery, q.By)
	case q.N < 1 || q.N > sources:
		return q, fmt.Errorf("%w: n %d: want 1 to %d", ErrQuery, q.N, sources)
	case q.Window < time.Second || q.Window > maxWindow:
		return q, fmt.Errorf("%w: window %v: want 1s to %v", ErrQuery, q.Window, maxWindow)
	}
	return q, nil
}

// Values are the query as a URL has it, without what is left to the daemon.
func (q Query) Values() url.Values {
	v := url.Values{}
	if q.N != 0 {
		v.Set("n", strconv.Itoa(q.N))
	}
	if q.By != "" {
		v.Set("by", string(q.By))
	}
	if q.Window != 0 {
		v.Set("window", q.Window.String())
	}
	return v
}

// ParseQuery reads n, by and window, all of which may be missing.
func ParseQuery(v url.Values) (Query, error) {
	q := Query{By: By(v.Get("by"))}
	var err error
	if n := v.Get("n"); n != "" {
		if q.N, err = strconv.Atoi(n); err != nil || q.N == 0 {
			return q, fmt.Errorf("%w: n %q: want 1 to %d", ErrQuery, n, sources)
		}
	}
	if window := v.Get("window"); window != "" {
		if q.Window, err = time.ParseDuration(window); err != nil || q.Window == 0 {
			return q, fmt.Errorf("%w: window %q: want a duration as 5s", ErrQuery, window)
		}
	}
	return q.Check()
}
