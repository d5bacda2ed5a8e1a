package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
)

func newDetachCommand(e *env) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "detach IFACE | --all",
		Short: "Take weir off an interface, or off all of them",
		Long: `Take weir off an interface. With the last one go the buckets and everything else that was pinned: nothing
is left behind.`,
		ValidArgsFunction: completeInterface,
		Example:           "  weir detach eth0\n  weir detach --all",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) == 1) || len(args) > 1 {
				return usagef("want one interface, or --all")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return e.change(func(d *loader.StateDir) error { return detach(e, d, args) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every interface of the state directory")
	return cmd
}

func detach(e *env, d *loader.StateDir, args []string) error {
	what := "everything"
	err := error(nil)
	if len(args) == 1 {
		what = args[0]
		err = d.Detach(what)
	} else {
		err = d.DetachAll()
	}
	if err != nil {
		return err
	}
	return e.print(map[string]string{"detached": what}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "detached %s\n", what)
		return err
	})
}
