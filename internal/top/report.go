package top

import (
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
)

// Seconds is how many whole seconds a history has at most.
const Seconds = 60

// Report is what came in the last seconds. It is the JSON of weir top and of /v1/top, which scripts read:
// add fields, rename none.
type Report struct {
	By By `json:"by"` // what the busiest are ranked by
	// Window is how many seconds the rates are means of; 0 until somebody listens.
	Window float64 `json:"window_seconds"`
	// Listening is for how long events were listened to.
	Listening time.Duration `json:"listening_ns"`
	Attached  int           `json:"attachments"`
	Total     Total         `json:"total"`
	Busiest   []Source      `json:"busiest"`
	Denied    []Source      `json:"denied"` // most denied first
	Events    Events        `json:"events"`
	// Trouble says why what is attached could not be read, and names and counts may be missing.
	Trouble string `json:"trouble,omitempty"`
}

// Rate is an estimated rate per second; the true one is nearer than Error in 19 of 20 cases.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Error     float64 `json:"error"`
}

// Source is what one source sent.
type Source struct {
	Source   netip.Addr `json:"source"`
	Passed   Rate       `json:"passed"`
	Denied   Rate       `json:"denied"` // dropped and shadow-dropped together
	Dropped  float64    `json:"dropped_per_second"`
	Shadow   float64    `json:"shadow_dropped_per_second"` // passed, but a policy in shadow would have dropped it
	Bytes    float64    `json:"bytes_per_second"`          // that passed
	Share    float64    `json:"share"`                     // of all that the ranking is by, 0 to 1
	Samples  uint64     `json:"samples"`                   // that the rates are made from
	DeniedBy *Denier    `json:"denied_by"`                 // most often; null: nobody
	Protocol string     `json:"protocol"`                  // seen most, with its port
	Port     uint16     `json:"port,omitempty"`            // the destination's
	History  History    `json:"history"`
}

// Denier is who denied.
type Denier struct {
	Policy    string       `json:"policy,omitempty"` // empty: it was no policy, or one that has gone
	Cause     loader.Cause `json:"cause"`
	Interface string       `json:"interface,omitempty"`
	Hook      string       `json:"hook"`
}

// Total is what all sources sent.
type Total struct {
	Passed  float64  `json:"passed_per_second"`
	Dropped float64  `json:"dropped_per_second"`
	Shadow  float64  `json:"shadow_dropped_per_second"`
	Bytes   float64  `json:"bytes_per_second"`
	Counted *Counted `json:"counted"` // by the programs, to the packet; null until it is known
	History History  `json:"history"`
}

// Counted are exact rates per second.
type Counted struct {
	Passed  *float64 `json:"passed_per_second"` // null where no policy meets every packet
	Dropped float64  `json:"dropped_per_second"`
}

// History has a value for each of the last whole seconds, the oldest first.
type History struct {
	Passed []uint64 `json:"passed"` // packets
	Denied []uint64 `json:"denied"` // packets that were dropped, or would have been
	Bytes  []uint64 `json:"bytes"`  // that passed
}

// Events tells how good the sample is.
type Events struct {
	Samples uint64  `json:"samples"` // in the window
	Weight  float64 `json:"packets_per_sample"`
	Lost    uint64  `json:"lost"`         // since listening began: not read in time, or not understood
	Kept    int     `json:"sources_kept"` // of each ranking, at most
}
