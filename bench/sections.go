package main

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/weir-limiter/weir/internal/bench"
)

// manyKeys is how many callers there are.
const manyKeys = 1_000_000

// engine measures decisions by policies, in this process.
func engine(_ context.Context, o options, r *report) error {
	const task = "1 M keys, all cores"
	k := newKeys(manyKeys)
	rates, err := measureInProcess([]string{nameWeir1, nameWeir3}, k, o)
	if err != nil {
		return err
	}
	for _, name := range []string{nameWeir1, nameWeir3} {
		r.rates(task, name, rates[name])
	}
	r.atLeast(task, nameWeir1+", of each core", bench.Summarise(rates[nameWeir1]).Median, "/s", 3e6)
	few := newKeys(1000)
	fewRates, err := measureInProcess([]string{nameWeir1}, few, o)
	if err != nil {
		return err
	}
	r.rates("1000 keys, all cores", nameWeir1, fewRates[nameWeir1])
	c, err := newContender(nameWeir3, k)
	if err != nil {
		return err
	}
	if err := c.fill(manyKeys); err != nil {
		return err
	}
	l, err := timeChecks(c, manyKeys, runtime.GOMAXPROCS(0), 0, o.each)
	if err != nil {
		return err
	}
	r.shown(task, nameWeir3+", half within", float64(l.P50), "ns")
	r.atMost(task, nameWeir3+", 99 % within", float64(l.P99), "ns", 20_000)
	r.shown(task, nameWeir3+", 99.9 % within", float64(l.P999), "ns")
	r.atMost(task, nameWeir3+", allocations", allocations(c, manyKeys), "allocations", 0)
	return nil
}

// rivals measures the libraries that people use, at the same questions.
func rivals(_ context.Context, o options, r *report) error {
	names := []string{nameWeir, nameXTime, nameThrottled, nameUlule, nameSethvargo}
	for _, t := range []struct {
		task string
		keys int
	}{{"1 M keys", manyKeys}, {"1 key, over its limit", 1}} {
		rates, err := measureInProcess(names, newKeys(t.keys), o)
		if err != nil {
			return err
		}
		for _, name := range names {
			r.rates(t.task, name, rates[name])
		}
		for _, name := range names[1:] {
			r.atLeast(t.task, "weir / "+name, ratio(rates[nameWeir], rates[name]), "ratio", 1)
		}
	}
	return nil
}

func memoryPerKey(_ context.Context, _ options, r *report) error {
	k := newKeys(manyKeys)
	for _, name := range []string{nameWeir, nameXTime, nameThrottled, nameUlule, nameSethvargo} {
		bytes, err := bytesPerKey(name, k)
		if err != nil {
			return err
		}
		if name == nameWeir {
			r.atMost("1 M keys", name+", memory per key", bytes, "bytes", 64)
		} else {
			r.shown("1 M keys", name+", memory per key", bytes, "bytes")
		}
	}
	return nil
}

func auth(ctx context.Context, o options, r *report) error {
	return besideEmpty(ctx, o, func(weir, empty *server) error {
		const task = "forward-auth"
		plain := &server{name: nameEmptyHTTP, http: empty.http}
		timed := &server{name: nameTimedHTTP, http: empty.timed}
		rates, err := measureServers(ctx, httpLoad, []*server{weir, plain, timed}, o)
		if err != nil {
			return err
		}
		r.rates(task, nameAuth, rates[0])
		r.rates(task, nameEmptyHTTP, rates[1])
		r.rates(task, nameTimedHTTP, rates[2])
		r.atLeast(task, nameAuth+" / "+nameEmptyHTTP, ratio(rates[0], rates[1]), "ratio", 0.85)
		r.shown(task, nameAuth+" / "+nameTimedHTTP, ratio(rates[0], rates[2]), "ratio")
		r.shown(task, nameTimedHTTP+" / "+nameEmptyHTTP, ratio(rates[2], rates[1]), "ratio")
		return nil
	})
}

func rlsThroughput(ctx context.Context, o options, r *report) error {
	return besideEmpty(ctx, o, func(weir, empty *server) error {
		const task = "RLS"
		rates, err := measureServers(ctx, rlsLoad(alice()), []*server{weir, empty}, o)
		if err != nil {
			return err
		}
		r.rates(task, nameRLS, rates[0])
		r.rates(task, nameEmptyRLS, rates[1])
		r.atLeast(task, nameRLS+" / "+nameEmptyRLS, ratio(rates[0], rates[1]), "ratio", 0.85)
		return nil
	})
}

// besideEmpty starts weir, and the servers that do nothing.
func besideEmpty(ctx context.Context, o options, measure func(weir, empty *server) error) (err error) {
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	empty, err := startEmpty(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.stop()) }()
	weir, err := startWeir(ctx, o.weir, dir, weirFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, weir.stop()) }()
	return measure(weir, empty)
}
