package demo

import "time"

// Client is one row of the table.
type Client struct {
	Name    string
	Kind    Kind
	Family  string  // ipv4 or ipv6
	Hosts   uint64  // how many addresses send; 0: each packet has one of its own
	Offered float64 // datagrams per second that it means to send

	Sent    uint64        // datagrams
	Passed  uint64        // of those, what the gateway's application received
	Dropped uint64        // the others
	Active  time.Duration // for how long it has sent
	Rate    float64       // datagrams per second that passed, in the last second of sending

	// OK and Verdict say whether it gets what its limit grants. Without weir there is no limit and no verdict.
	OK      bool
	Verdict string
}

// Exchanges are the questions that the good client asked over TCP.
type Exchanges struct {
	OK, Failed uint64
	P50, P99   time.Duration // of those answered, rounded up by at most 1/16
}

// Measurement is what was seen at one instant.
type Measurement struct {
	Elapsed   time.Duration
	Clients   []Client // in the order of the table
	Exchanges Exchanges
	// Stalled is the longest time for which the machine let nobody of this process run who should have.
	Stalled time.Duration
}

// Kernel is what was counted in the gateway's kernel since weir was attached.
type Kernel struct {
	Passed, Dropped uint64 // packets, by weir
	Strangers       uint64 // of the dropped: first-seen sources beyond new_sources
	Banned          uint64 // of the dropped: by the ban
	Segments        uint64 // of TCP, by the stack behind weir
}

// Result is what the demo found out.
type Result struct {
	Duration     time.Duration // of the part with weir
	Before, With Measurement
	Kernel       Kernel
	Attempts     int // that the part with weir took; all but the last were disturbed by what else the machine had to do
	Proved       bool
	Summary      string // one sentence, of what was proved or of what was not

	disturbed bool
}
