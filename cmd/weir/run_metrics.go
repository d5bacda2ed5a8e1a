package main

import (
	"errors"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/policy"
)

var _ metrics.Source = (*daemon)(nil)

// Kernel reads the counters.
func (d *daemon) Kernel() (metrics.Kernel, error) {
	all, err := d.attachments()
	if err != nil {
		return metrics.Kernel{}, err
	}
	return kernelMetrics(all), nil
}

func kernelMetrics(all []loader.Attachment) metrics.Kernel {
	at := make(map[point]*loader.Attachment, len(all))
	inForce := map[string]bool{}
	for i := range all {
		a := &all[i]
		// A renamed interface may have the name of one that has vanished.
		if old := at[attachmentPoint(*a)]; old == nil || old.State != loader.StateAttached {
			at[attachmentPoint(*a)] = a
		}
	}
	var k metrics.Kernel
	for _, a := range at {
		k.Attachments = append(k.Attachments, attachmentMetrics(a))
		for _, p := range a.Policies {
			if a.State == loader.StateAttached {
				inForce[p.Name] = true
			}
		}
	}
	k.Policies = len(inForce)
	return k
}

func attachmentMetrics(a *loader.Attachment) metrics.Attachment {
	c := &a.Counters
	m := metrics.Attachment{
		Interface: a.Interface, Hook: string(a.Hook), Unparsed: c.Unparsed, Listed: make(map[string]metrics.Count, len(c.Listed)),
		Pressure: c.Pressure, Contended: c.Contended, EventsLost: c.EventsLost,
	}
	for list, n := range c.Listed {
		m.Listed[list] = metrics.Count(n)
	}
	for name, verdicts := range c.Policies {
		p := metrics.Policy{
			Name: name, Verdicts: make(map[policy.Verdict]metrics.Count, len(verdicts)), Strangers: c.Strangers[name], Paced: c.Paced[name],
		}
		for verdict, n := range verdicts {
			p.Verdicts[verdict] = metrics.Count(n)
		}
		m.Policies = append(m.Policies, p)
	}
	return m
}

// Table counts the entries of the bucket table, and the slots of the CPUs; all are 0 if there are none, as
// nothing is attached.
func (d *daemon) Table() (metrics.Table, error) {
	b, err := d.packets.dir.OpenBuckets()
	if errors.Is(err, loader.ErrNothingAttached) {
		return metrics.Table{}, nil
	}
	if err != nil {
		return metrics.Table{}, err
	}
	now := loader.Now()
	o := b.Occupancy(now)
	t := metrics.Table{Capacity: o.Capacity, Claimed: o.Claimed, Owing: o.Owing}
	for _, s := range b.Slots() {
		if s.Credit > 0 {
			t.Leasing++
		}
		if s.Denied {
			t.Denying++
		}
	}
	return t, b.Close()
}

// BanCounts counts the bans that are in force.
func (d *daemon) BanCounts() (metrics.Bans, error) {
	n, err := d.packets.dir.CountBans()
	return metrics.Bans(n), err
}
