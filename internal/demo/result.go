package demo

import "time"

// Client is one row of the table.
type Client struct {
	Name    string
	Kind    Kind
	Family  string  // ipv4 or ipv6
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
}

// Kernel is what was counted in the gateway's kernel since weir was attached.
type Kernel struct {
	Passed, Dropped uint64 // packets, by weir
	Segments        uint64 // of TCP, by the stack behind it
}

// Result is what the demo found out.
type Result struct {
	Duration     time.Duration // of the part with weir
	Before, With Measurement
	Kernel       Kernel
	Proved       bool
	Summary      string // one sentence, of what was proved or of what was not
}
