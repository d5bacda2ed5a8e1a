package fallback

import (
	"context"
	"encoding/json"
	"time"
)

// The events of alerts.
const (
	StoreAway = "store_away"
	StoreBack = "store_back"
)

// alertQueue is how many alerts may wait to be told.
const alertQueue = 16

// Alert tells people that the store went away or is back. It has no address and no key.
type Alert struct {
	Event    string `json:"event"` // StoreAway or StoreBack
	Instance string `json:"instance"`
	// Since is when the store went away, of both events.
	Since time.Time `json:"since"`
	// ConsecutiveFailures is how many calls and probes failed until then.
	ConsecutiveFailures uint64 `json:"consecutive_failures"`
	// Reason is the class of the last failure.
	Reason string `json:"reason"`
	// Duration is how long the store was away; 0 when it goes.
	Duration Duration `json:"duration"`
}

// Duration is a time.Duration that JSON has as text, such as "1.5s".
type Duration time.Duration

// MarshalJSON writes the text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads the text.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(s)
	*d = Duration(parsed)
	return err
}

// tell completes an alert and hands it to announce; mu is held, and nothing waits.
func (g *Guard) tell(a Alert) {
	a.Instance, a.ConsecutiveFailures, a.Reason = g.o.Instance, g.failures.Load(), Class(g.class.Load()).String()
	a.Since = a.Since.Round(0).UTC()
	select {
	case g.alerts <- a:
	default:
		g.dropped++
	}
}

// announce logs alerts and passes them on, until ctx ends and none is left. It is apart from the health loop, which may
// wait for a probe, and from callers, who may not wait for a log.
func (g *Guard) announce(ctx context.Context) {
	for {
		select {
		case a := <-g.alerts:
			g.say(a)
			continue
		default:
		}
		select {
		case a := <-g.alerts:
			g.say(a)
		case <-ctx.Done():
			return
		}
	}
}

// say tells one alert.
func (g *Guard) say(a Alert) {
	if a.Event == StoreAway {
		g.o.Log.Warn("the store is away: on_store_failure decides", "reason", a.Reason, "consecutive_failures", a.ConsecutiveFailures)
	} else {
		g.o.Log.Info("the store is back", "away", time.Duration(a.Duration), "reason", a.Reason, "consecutive_failures", a.ConsecutiveFailures)
	}
	if g.o.Alert != nil {
		g.o.Alert(a)
	}
}
