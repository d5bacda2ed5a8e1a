package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weir-limiter/weir/internal/bench"
)

func newBenchCommand(e *env) *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a packet costs on this machine",
		Long: `Measure what a packet costs the program in the kernel, for one source, for many, and for a spoofed flood, within
the limit and beyond it: by itself, and with live frames in network namespaces of its own, beside what a host has
already, nftables and iptables. All figures are compared within one round, and held against their targets.
With --compare it is measured against a conventional token bucket in an LRU hash as well, which is in weir's
source and not in this program. docs/PERFORMANCE.md tells how it is done.

Sections, for --only: ` + strings.Join(bench.Sections(), ", ") + `.`,
		Example: `  weir bench
  weir bench --compare bpf/bench/lru.bpf.o
  weir bench --only live,cpus --rounds 31 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd.Context(), e, o)
		},
	}
	cmd.Flags().StringVar(&o.Compare, "compare", "", "object file to compare with: bpf/bench/lru.bpf.o of the source")
	cmd.Flags().StringSliceVar(&o.Only, "only", nil, "sections to measure, with commas between them; default: all")
	cmd.Flags().IntVar(&o.Rounds, "rounds", bench.DefaultRounds, fmt.Sprintf("rounds, 1 to %d; their median counts", bench.MaxRounds))
	cmd.Flags().IntVar(&o.Packets, "packets", bench.DefaultPackets,
		fmt.Sprintf("packets of each contender in a round, %d to %d", bench.MinPackets, bench.MaxPackets))
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
	if err := e.show(report, func(p *page) { writeBench(p, report) }); err != nil {
		return err
	}
	if n := report.Void(); n > 0 {
		return fmt.Errorf("%d figures are void: %w", n, bench.ErrVerdict)
	}
	return nil
}
