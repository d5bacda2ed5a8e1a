package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// tolerance is the part by which a count may miss what the limit grants.
	tolerance = 0.01
	// fewPackets is how many packets a count may always miss it by.
	fewPackets = 3
	// leaseShare is the part of a burst that the CPUs may hold in advance, and so spend later than it was granted:
	// bpf/lib/slot.h.
	leaseShare = 1.0 / 16
	// leastShare is the part of what the limit grants that a flooder gets at the least: a limiter that drops everything holds
	// every limit.
	leastShare = 0.97
	// stallAllowed is how long the machine may stand still: half of what the buckets make up for.
	stallAllowed = 500 * time.Millisecond
	// leastSent is the part of what a host means to send that it gets sent on a machine that has time for it.
	leastSent = 0.95
	// clearly is how many times what the limit grants a flooder has to send before its being held to it means something.
	clearly = 2
)

// bound is a limit that a client meets.
type bound struct {
	limit, burst uint64
	window       time.Duration
	words        string // "1000/s"
}

// boundOf is what holds clients of a kind.
func boundOf(k Kind) bound {
	p := PerClient()
	if k == KindBotnet {
		p = PerNetwork()
	}
	if n := p.NewSources; k == KindSpoofed {
		// Each first-seen source is one packet, as none of them comes twice.
		return bound{n.Limit, n.Limit, n.Window, policy.Policy{Limit: n.Limit, Window: n.Window}.Rate()}
	}
	return bound{p.Limit, p.Burst, p.Window, p.Rate()}
}

// flow is what comes in while somebody sends for that long.
func (b bound) flow(active time.Duration) float64 {
	return float64(b.limit) * active.Seconds() / b.window.Seconds()
}

// granted is what the limit lets a client have in that time: a full bucket and what flows in.
func (b bound) granted(active time.Duration) float64 { return float64(b.burst) + b.flow(active) }

// most is what it may get, as measured.
func (b bound) most(active time.Duration) float64 {
	return b.granted(active) + max(slack(b.granted(active)), leaseShare*float64(b.burst))
}

// least is what it has to get. Those who came before the flood have taken from the strangers' burst.
func (b bound) least(k Kind, active time.Duration) float64 {
	if k == KindSpoofed {
		return leastShare * b.flow(active)
	}
	return leastShare * b.granted(active)
}

func slack(of float64) float64 { return max(tolerance*of, fewPackets) }

// Limit is what holds the client, in a few words.
func (c Client) Limit() string {
	switch b := boundOf(c.Kind); c.Kind {
	case KindBotnet:
		return fmt.Sprintf("%s a /%d", b.words, PerNetwork().IPv4Prefix)
	case KindSpoofed:
		return b.words + " new"
	case KindBanned:
		return "banned"
	default:
		return b.words
	}
}

// verdict says whether a client gets what its limit grants, and how it fares, in a few words.
func verdict(c Client) (ok bool, words string) {
	switch c.Kind {
	case KindGood:
		if c.Dropped > 0 {
			return false, "lost " + count(c.Dropped, "packet")
		}
		return c.Sent > 0, "within its limit"
	case KindBanned:
		if c.Passed > 0 {
			return false, count(c.Passed, "packet") + " got through"
		}
		return c.Sent > 0, "nothing gets through"
	}
	b := boundOf(c.Kind)
	switch passed := float64(c.Passed); {
	case passed > b.most(c.Active):
		return false, "over its limit"
	case float64(c.Sent) < clearly*b.granted(c.Active):
		return false, "sent too little to tell"
	case passed < b.least(c.Kind, c.Active):
		return false, "held below its limit"
	case c.Kind == KindBotnet:
		return true, "together held to " + b.words
	case c.Kind == KindSpoofed:
		return true, "strangers held to " + b.words
	}
	return true, "held to " + b.words
}

// judge draws the conclusion from a part with weir that ran to its end.
func judge(d time.Duration, with Measurement, k Kernel) *Result {
	r := &Result{Duration: d, With: with, Kernel: k}
	var faults []string
	for _, c := range with.Clients {
		if fault := clientFault(c); fault != "" {
			faults = append(faults, fault)
		}
	}
	if fault := exchangeFault(with.Exchanges); fault != "" {
		faults = append(faults, fault)
	}
	faults = append(faults, kernelFaults(with.Clients, k)...)
	if fault := elsewhereFault(with.Clients, k); fault != "" {
		r.disturbed = true
		faults = append(faults, fault)
	}
	if excuse := busyMachine(d, with); excuse != "" && len(faults) > 0 {
		r.disturbed = true
		faults = append(faults, excuse)
	}
	r.Proved = len(faults) == 0
	if r.Proved {
		r.Summary = proof(with)
	} else {
		r.Summary = "Not proved: " + strings.Join(faults, "; ") + "."
	}
	return r
}

// clientFault says in what way a client did not get what its limit grants; empty if it did.
func clientFault(c Client) string {
	ok, words := verdict(c)
	switch {
	case ok:
		return ""
	case c.Sent == 0:
		return fmt.Sprintf("the %s sent nothing", c.Name)
	case c.Kind == KindGood:
		return fmt.Sprintf("the %s lost %s of %s datagrams", c.Name, thousands(c.Dropped), thousands(c.Sent))
	case c.Kind == KindBanned:
		return fmt.Sprintf("%s of the %s's %s got through", count(c.Passed, "packet"), c.Name, thousands(c.Sent))
	}
	b := boundOf(c.Kind)
	return fmt.Sprintf("the %s was %s: %s of %s packets got through, and %s and a burst of %s in %s grant %s", c.Name, words,
		thousands(c.Passed), thousands(c.Sent), b.words, thousands(b.burst), seconds(c.Active), thousands(uint64(b.granted(c.Active))))
}

// busyMachine says in what way the machine kept the hosts from sending what they meant to; empty if it did not. It does no
// harm by itself, but what fails then fails not for weir's sake.
func busyMachine(d time.Duration, m Measurement) string {
	if m.Stalled > stallAllowed {
		return fmt.Sprintf("this machine stood still for %s", seconds(m.Stalled))
	}
	for _, c := range m.Clients {
		if meant := c.Offered * d.Seconds(); float64(c.Sent) < leastSent*meant {
			return fmt.Sprintf("this machine let the %s send only %s of %s packets", c.Name, thousands(c.Sent), thousands(uint64(meant)))
		}
	}
	return ""
}

func exchangeFault(e Exchanges) string {
	switch {
	case e.Failed > 0:
		return fmt.Sprintf("%s of the good client failed, of %s", count(e.Failed, "exchange"), thousands(e.OK+e.Failed))
	case e.OK == 0:
		return "the good client exchanged nothing"
	}
	return ""
}

// kernelFaults holds what weir says that it did against what happened.
func kernelFaults(clients []Client, k Kernel) (faults []string) {
	sent, passed := totals(clients)
	received := passed + k.Segments
	if k.Passed < received && received-k.Passed > fewPackets {
		faults = append(faults, fmt.Sprintf("weir counted %s as passed, and the application received %s",
			count(k.Passed, "packet"), thousands(received)))
	}
	// On a cable between the sender and weir some of a flood may be lost, but nothing is added.
	if missing := sent - passed; k.Dropped > missing+fewPackets {
		faults = append(faults, fmt.Sprintf("weir counted %s, and the application missed %s", count(k.Dropped, "drop"), thousands(missing)))
	}
	return faults
}

// elsewhereFault says how many packets neither weir dropped nor the application received, if they are so many that
// nothing is proved: before weir, on a cable, or behind it, as weir counts what it lets pass.
func elsewhereFault(clients []Client, k Kernel) string {
	sent, passed := totals(clients)
	missing := sent - passed
	elsewhere := missing - min(k.Dropped, missing)
	behind := k.Passed - min(k.Passed, passed+k.Segments)
	if float64(elsewhere) <= slack(float64(sent)) && behind <= fewPackets && (elsewhere == 0 || !goodLost(clients)) {
		return ""
	}
	return fmt.Sprintf("%s got lost outside weir (is this machine very busy?)", count(max(elsewhere, behind), "packet"))
}

func goodLost(clients []Client) bool {
	return slices.ContainsFunc(clients, func(c Client) bool { return c.Kind == KindGood && c.Dropped > 0 })
}

func totals(clients []Client) (sent, passed uint64) {
	for _, c := range clients {
		sent += c.Sent
		passed += c.Passed
	}
	return sent, passed
}
