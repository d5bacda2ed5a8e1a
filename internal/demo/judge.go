package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// tolerance is the part by which a count may miss what the limit grants.
	tolerance = 0.01
	// fewPackets is how many packets a count may always miss it by.
	fewPackets = 3
	// leastShare is the part of what the limit grants that a flooder gets at the least: a limiter that drops everything holds
	// every limit.
	leastShare = 0.97
	// clearly is how many times what the limit grants a flooder has to send before its being held to it means something.
	clearly = 2
)

// granted is what the limit lets a source have in that time: a full bucket and what flows in.
func granted(active time.Duration) float64 {
	p := Policy()
	return float64(p.Burst) + float64(p.Limit)*active.Seconds()/p.Window.Seconds()
}

func slack(of float64) float64 { return max(tolerance*of, fewPackets) }

// verdict says whether a client gets what its limit grants, and how it fares, in a few words.
func verdict(c Client) (ok bool, words string) {
	switch c.Kind {
	case KindGood:
		if c.Dropped > 0 {
			return false, "lost " + count(c.Dropped, "packet")
		}
		return c.Sent > 0, "within its limit"
	case KindSpoofed:
		if float64(c.Dropped) > slack(float64(c.Sent)) {
			return false, "strangers, and dropped"
		}
		return c.Sent > 0, "strangers within their limits"
	}
	allowed := granted(c.Active)
	switch passed := float64(c.Passed); {
	case passed > allowed+slack(allowed):
		return false, "over its limit"
	case float64(c.Sent) < clearly*allowed:
		return false, "sent too little to tell"
	case passed < leastShare*allowed:
		return false, "held below its limit"
	}
	return true, "held to " + Policy().Rate()
}

// judge draws the conclusion from a demo that ran to its end.
func judge(d time.Duration, before, with Measurement, k Kernel) *Result {
	r := &Result{Duration: d, Before: before, With: with, Kernel: k}
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
	case c.Kind == KindSpoofed:
		return fmt.Sprintf("%s of %s packets of the %s were dropped, though nearly each came from a source of its own",
			thousands(c.Dropped), thousands(c.Sent), c.Name)
	}
	return fmt.Sprintf("the %s was %s: %s of %s packets got through, and %s in %s grant %s", c.Name, words,
		thousands(c.Passed), thousands(c.Sent), terms(), seconds(c.Active), thousands(uint64(granted(c.Active))))
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
	if max(k.Passed, received)-min(k.Passed, received) > fewPackets {
		faults = append(faults, fmt.Sprintf("weir counted %s as passed, and the application received %s",
			count(k.Passed, "packet"), thousands(received)))
	}
	// On a cable between the sender and weir some of a flood may be lost, but nothing is added.
	missing := sent - passed
	if k.Dropped > missing+fewPackets {
		faults = append(faults, fmt.Sprintf("weir counted %s, and the application missed %s", count(k.Dropped, "drop"), thousands(missing)))
	}
	if elsewhere := missing - min(k.Dropped, missing); float64(elsewhere) > slack(float64(sent)) || elsewhere > 0 && goodLost(clients) {
		faults = append(faults, fmt.Sprintf("%s got lost outside weir (is this machine very busy?)", count(elsewhere, "packet")))
	}
	return faults
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
