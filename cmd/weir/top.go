package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/top"
)

// topEvery is how often the live view looks anew.
const topEvery = time.Second

// topOptions are the flags of "weir top".
type topOptions struct {
	query top.Query
	by    string
	once  bool
	wait  time.Duration
}

func newTopCommand(e *env) *cobra.Command {
	var o topOptions
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the busiest and the most denied sources, live",
		Long: `Show which sources send most, and which are denied most, as estimated from a sample of the packets. Beside
each rate is its error: the true one is nearer than that in 19 of 20 cases. The totals are estimated
from the same sample, and beside them is what the programs counted.

On a terminal the view is live, with a line of the last seconds for each source; keys: q ends it, p, d
and b rank by packets passed, by denied, and by bytes. Elsewhere, and with --once or -o json, it
collects for a while and prints once. Addresses are never looked up.

It asks the daemon if one runs, else the kernel, of which one process at a time can have the sample.
The programs draw it only while somebody looks.`,
		Example: "  weir top\n  weir top --by dropped -n 5\n  weir top --once --for 10s -o json | jq -r '.denied[].source'",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return runTop(cmd.Context(), e, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.by, "by", string(top.ByPassed), "rank the busiest by: passed (packets), bytes; dropped: the most denied come first")
	flags.IntVarP(&o.query.N, "number", "n", 20, "how many sources, as far as the terminal has room")
	flags.BoolVar(&o.once, "once", false, "collect, print once and end")
	flags.DurationVar(&o.wait, "for", 2*time.Second, "how long to collect before printing once, 1s to 1m")
	return cmd
}

func (o *topOptions) check() error {
	o.query.By = top.By(o.by)
	once := o.query
	once.Window = o.wait
	_, err := once.Check()
	switch {
	case o.wait < time.Second || o.wait > time.Minute:
		return usagef("--for %v: want 1s to 1m", o.wait)
	case o.query.N == 0:
		return usagef("-n 0: want 1 or more")
	case err != nil:
		return usageError{err}
	}
	return nil
}

func runTop(ctx context.Context, e *env, o topOptions) (err error) {
	source, err := openTop(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return watchTop(ctx, e, source, o)
}

// watchTop shows what source tells, while that collects.
func watchTop(ctx context.Context, e *env, source topSource, o topOptions) error {
	g, collecting := errgroup.WithContext(context.WithoutCancel(ctx))
	collecting, stop := context.WithCancel(collecting)
	g.Go(func() error {
		defer stop()
		return source.Run(collecting)
	})
	g.Go(func() error {
		defer stop()
		if file := liveTerminal(e); file != nil && !o.once && e.output == "text" {
			return topLive(ctx, collecting, e, file, source, o.query)
		}
		return topOnce(ctx, collecting, e, source, o)
	})
	return g.Wait()
}

// topOnce prints what was collected when the time is over, or when the user does not want to wait longer.
func topOnce(ctx, collecting context.Context, e *env, source topSource, o topOptions) error {
	if _, err := source.Report(collecting, o.query); err != nil { // which lets a daemon begin to collect
		return err
	}
	over := time.NewTimer(o.wait)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	case <-collecting.Done():
		return nil // with an error of the other one
	}
	q := o.query
	q.Window = max(time.Second, o.wait.Round(time.Second))
	r, err := source.Report(collecting, q)
	if err != nil {
		return err
	}
	return e.show(r, func(p *page) { writeTop(p, r, topLayout{width: topWidth(e.out)}) })
}
