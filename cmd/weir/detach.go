package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
)

func newDetachCommand(e *env) *cobra.Command {
	var all bool
	var hook string
	cmd := &cobra.Command{
		Use:   "detach IFACE | --all",
		Short: "Take weir off an interface, or off all of them",
		Long: `Take weir off an interface, at all its hooks or the one that is named. With the last one go the buckets and everything else that was pinned: nothing
is left behind.`,
		ValidArgsFunction: completeInterface,
		Example:           "  weir detach eth0\n  weir detach eth0 --hook tc-egress\n  weir detach --all",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) == 1) || len(args) > 1 {
				return usagef("want one interface, or --all")
			}
			if hook == "" {
				return nil
			}
			if all {
				return usagef("--hook chooses one of an interface's, and --all takes every one")
			}
			return checkHook(loader.Hook(hook))
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return e.change(func(d *loader.StateDir) error { return detach(e, d, args, loader.Hook(hook)) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every interface of the state directory")
	cmd.Flags().StringVar(&hook, "hook", "", "xdp, tc-ingress or tc-egress; without it, all of the interface's")
	return cmd
}

func detach(e *env, d *loader.StateDir, args []string, hook loader.Hook) error {
	what := "everything"
	err := error(nil)
	switch {
	case len(args) == 0:
		err = d.DetachAll()
	case hook == "":
		what = args[0]
		err = d.Detach(what)
	default:
		what = args[0] + " at " + string(hook)
		err = d.DetachHook(args[0], hook)
	}
	if err != nil {
		return err
	}
	return e.print(map[string]string{"detached": what}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "detached %s\n", what)
		return err
	})
}
