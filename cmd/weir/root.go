package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
)

const (
	exitOK = iota
	exitFailure
	exitUsage
)

// run is the whole program but for the process around it.
func run(ctx context.Context, e *env, args []string) int {
	root := newRootCommand(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if e.debug {
		fmt.Fprintf(e.err, "weir: %+v\n", err)
	} else {
		fmt.Fprintf(e.err, "weir: %v\n", err)
	}
	if errors.Is(err, errUsage) || isCobraUsage(err) {
		return exitUsage
	}
	return exitFailure
}

// isCobraUsage recognises the one usage error that cobra reports without a hook to mark it by.
func isCobraUsage(err error) bool { return strings.HasPrefix(err.Error(), "unknown command ") }

func newRootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "A rate limiter whose first line is in the kernel",
		Long: `weir limits packets in the kernel, and requests for whoever asks it.

Every source of packets has its own token bucket, in an XDP program at line rate. Begin with "weir doctor",
which tells whether this machine has what that needs, and "weir demo", which shows in a private network what
it does.

Requests are limited by user, API key, address, endpoint and more: layer 7. That needs neither root nor the
kernel's part. Begin with "weir run -c FILE" and "weir check", which asks it as a proxy would.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if e.output != "text" && e.output != "json" {
				return usagef("--output %q: want text or json", e.output)
			}
			return nil
		},
	}
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w (see: %s --help)", err, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&e.stateDir, "bpffs", loader.DefaultStateDir, "state directory, on a bpf file system")
	flags.StringVar(&e.runDir, "run-dir", "/run/weir", "runtime directory of the daemon")
	flags.StringVarP(&e.output, "output", "o", "text", "text or json")
	completeWith(root, "output", "text", "json")
	flags.BoolVar(&e.debug, "debug", false, "errors with all that is known, a verifier's log included")
	root.AddCommand(
		newAttachCommand(e),
		newDetachCommand(e),
		newRunCommand(e),
		newStatusCommand(e),
		newPolicyCommand(e),
		newCheckCommand(e),
		newBucketCommand(e),
		newBanCommand(e),
		newUnbanCommand(e),
		newBansCommand(e),
		newMapsCommand(e),
		newTopCommand(e),
		newDoctorCommand(e),
		newDemoCommand(e),
		newBenchCommand(e),
		newVersionCommand(e),
	)
	return root
}

// exactArgs is cobra's check, as a usage error.
func exactArgs(n int, names string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("want %s (see: %s --help)", names, c.CommandPath())
		}
		return nil
	}
}

// completeWith completes a flag with the values that it may have; with none, it has nothing to offer, least
// of all files.
func completeWith(cmd *cobra.Command, flag string, values ...cobra.Completion) {
	// It fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
