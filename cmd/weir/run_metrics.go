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
	byName := make(map[string]loader.Attachment, len(all))
	inForce := map[string]bool{}
	for _, a := range all {
		// A renamed interface may have the name of one that has vanished.
		if old, ok := byName[a.Interface]; ok && old.State == loader.StateAttached {
			continue
		}
		byName[a.Interface] = a
	}
	var k metrics.Kernel
	for _, a := range byName {
		k.Interfaces = append(k.Interfaces, interfaceMetrics(a))
		for _, p := range a.Policies {
			if a.State == loader.StateAttached {
				inForce[p.Name] = true
			}
		}
	}
	k.Policies = len(inForce)
	return k
}

func interfaceMetrics(a loader.Attachment) metrics.Interface {
	i := metrics.Interface{
		Name: a.Interface, Unparsed: a.Counters.Unparsed,
		Pressure: a.Counters.Pressure, Contended: a.Counters.Contended,
	}
	for name, verdicts := range a.Counters.Policies {
		p := metrics.Policy{Name: name, Verdicts: make(map[policy.Verdict]metrics.Count, len(verdicts))}
		for verdict, n := range verdicts {
			p.Verdicts[verdict] = metrics.Count(n)
		}
		i.Policies = append(i.Policies, p)
	}
	return i
}

// Table counts the entries of the bucket table; all are 0 if there is none, as nothing is attached.
func (d *daemon) Table() (metrics.Table, error) {
	b, err := d.dir.OpenBuckets()
	if errors.Is(err, loader.ErrNothingAttached) {
		return metrics.Table{}, nil
	}
	if err != nil {
		return metrics.Table{}, err
	}
	o := b.Occupancy(loader.Now())
	return metrics.Table(o), b.Close()
}
