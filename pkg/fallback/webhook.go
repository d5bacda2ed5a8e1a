package fallback

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	webhookAnswer    = 4 << 10 // bytes of an answer that are read, so that its connection ends well
	webhookRedirects = 3
	webhookMaxPause  = 5 * time.Second
)

// WebhookOptions say where alerts go. What is zero gets the value that its comment names.
type WebhookOptions struct {
	// URL is http or https. It may hold a secret, and is never logged.
	URL     string
	Timeout time.Duration // of one attempt: 2s
	Tries   uint          // 4
	Pause   time.Duration // after the first attempt that failed, doubled from then on: 200ms
	// Transport is what connects; nil: one of the webhook's own, which keeps no connections.
	Transport http.RoundTripper
	Log       *slog.Logger // nil: [slog.Default]
}

// Webhook posts alerts as JSON, one after another. Alerts wait in a queue of limited length, and an alert that finds it
// full takes the place of the oldest.
type Webhook struct {
	o      WebhookOptions
	client http.Client
	queue  chan Alert

	sent, failed, retried, dropped atomic.Uint64
}

// WebhookState counts alerts.
type WebhookState struct {
	Sent    uint64 // answered with 2xx
	Failed  uint64 // given up
	Retried uint64 // attempts after the first
	Dropped uint64 // the queue was full
}

// errRedirected and errRefused are answers that another attempt would not change.
var (
	errRedirected = errors.New("redirected to another place")
	errRefused    = errors.New("refused")
	errAnswer     = errors.New("not taken")
)

// NewWebhook makes a webhook, to whose Run alerts come by Notify.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("the webhook's URL is none (write http://HOST/PATH or https://HOST/PATH)")
	}
	if o.Timeout < 0 || o.Pause < 0 {
		return nil, fmt.Errorf("a webhook's timeout is %v and its pause %v (they are 0 or more)", o.Timeout, o.Pause)
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Pause == 0 {
		o.Pause = 200 * time.Millisecond
	}
	if o.Tries == 0 {
		o.Tries = 4
	}
	if o.Transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.DisableKeepAlives = true // alerts are rare
		o.Transport = own
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Webhook{
		o: o, queue: make(chan Alert, alertQueue),
		client: http.Client{Transport: o.Transport, CheckRedirect: sameHost},
	}, nil
}

// sameHost lets a POST be redirected within its host alone: what an alert says is not for others, and a POST that became a
// GET would say nothing.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0]
	if r.Method != first.Method || r.URL.Host != first.URL.Host || r.URL.Scheme != first.URL.Scheme || len(via) > webhookRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// Notify queues an alert. It never waits.
func (w *Webhook) Notify(a Alert) {
	for {
		select {
		case w.queue <- a:
			return
		default:
		}
		select {
		case <-w.queue:
			w.dropped.Add(1)
		default:
		}
	}
}

// State counts what became of alerts.
func (w *Webhook) State() WebhookState {
	return WebhookState{Sent: w.sent.Load(), Failed: w.failed.Load(), Retried: w.retried.Load(), Dropped: w.dropped.Load()}
}

// Run posts alerts until ctx ends; those still queued then are lost.
func (w *Webhook) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-w.queue:
			w.post(ctx, a)
		}
	}
}

// post posts one alert, several times if need be.
func (w *Webhook) post(ctx context.Context, a Alert) {
	body, err := json.Marshal(a)
	if err != nil {
		w.failed.Add(1)
		return
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.Multiplier, pause.MaxInterval, pause.RandomizationFactor = w.o.Pause, 2, webhookMaxPause, jitter
	status, err := backoff.Retry(ctx, func() (int, error) { return w.attempt(ctx, body) },
		backoff.WithBackOff(pause), backoff.WithMaxTries(w.o.Tries), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(error, time.Duration) { w.retried.Add(1) }))
	if err == nil {
		w.sent.Add(1)
		return
	}
	if ctx.Err() != nil {
		return
	}
	w.failed.Add(1)
	w.o.Log.Warn("an alert could not be posted to the webhook", "event", a.Event, "reason", ClassOf(err).String(), "status", status)
}

// attempt posts once. It returns the status, 0 without an answer.
func (w *Webhook) attempt(ctx context.Context, body []byte) (int, error) {
	limit, cancel := context.WithTimeout(ctx, w.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(limit, http.MethodPost, w.o.URL, bytes.NewReader(body))
	if err != nil {
		return 0, backoff.Permanent(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "weir")
	answer, err := w.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, webhookAnswer)
	switch status := answer.StatusCode; {
	case status >= 200 && status < 300:
		return status, nil
	case status >= 300 && status < 400:
		return status, backoff.Permanent(errRedirected)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return status, errAnswer
	default:
		return status, backoff.Permanent(errRefused)
	}
}
