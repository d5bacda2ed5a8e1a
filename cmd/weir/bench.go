package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weir-limiter/weir/internal/bench"
)

func newBenchCommand(e *env) *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a packet costs on this machine",
		Long: `Measure what a packet costs the program in the kernel, for one source, for many, and for a spoofed flood,
within the limit and beyond it, beside a program that only drops. With --compare it is measured against a
conventional token bucket in an LRU hash as well, which is in weir's source and not in this program. Nothing is
attached, and no packet is sent: docs/PERFORMANCE.md tells how it is done.`,
		Example: `  weir bench
  weir bench --compare bpf/bench/lru.bpf.o
  weir bench --rounds 31 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd.Context(), e, o)
		},
	}
	cmd.Flags().StringVar(&o.Compare, "compare", "", "object file to compare with: bpf/bench/lru.bpf.o of the source")
	cmd.Flags().IntVar(&o.Rounds, "rounds", bench.DefaultRounds, fmt.Sprintf("rounds, 1 to %d; their median counts", bench.MaxRounds))
	cmd.Flags().IntVar(&o.Packets, "packets", bench.DefaultPackets,
		fmt.Sprintf("packets in a round, %d to %d", bench.MinPackets, bench.MaxPackets))
	cmd.Flags().BoolVar(&o.Parallel, "parallel", false, "measure one source on two CPUs at once as well")
	return cmd
}

func runBench(ctx context.Context, e *env, o bench.Options) error {
	clear := func() {}
	if f, ok := e.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.Progress = func(what string, round, rounds int) {
			fmt.Fprintf(f, "\r\x1b[Kmeasuring %s: round %d of %d", what, round, rounds)
		}
		clear = func() { fmt.Fprint(f, "\r\x1b[K") }
	}
	report, err := bench.Run(ctx, o)
	clear()
	if errors.Is(err, bench.ErrOptions) {
		return usagef("%w (see: weir bench --help)", err)
	}
	if err != nil {
		return err
	}
	return e.show(report, func(p *page) { writeBench(p, report) })
}
