package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newAttachCommand(e *env) *cobra.Command {
	var file, hook, mode string
	cmd := &cobra.Command{
		Use:   "attach IFACE",
		Short: "Enforce a file's kernel policies on an interface, without a daemon",
		Long: `Enforce the kernel policies of a configuration file on an interface. What is attached is pinned: it
works on when the command has ended, until "weir detach". On an interface that weir is attached to
already, the policies are replaced in one step, and every bucket keeps its state.`,
		Example: `  weir attach eth0 -c /etc/weir/weir.yaml
  weir attach eth0 -c weir.yaml --mode native`,
		Args:              exactArgs(1, "one interface"),
		ValidArgsFunction: completeInterface,
		RunE: func(_ *cobra.Command, args []string) error {
			if hook != string(config.HookXDP) {
				return usagef("--hook %s: this version of weir attaches to xdp only", hook)
			}
			return attach(e, args[0], file, loader.Mode(mode))
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "/etc/weir/weir.yaml", "configuration file")
	cmd.Flags().StringVar(&hook, "hook", "xdp", "xdp")
	cmd.Flags().StringVar(&mode, "mode", "auto", "auto, native or generic")
	return cmd
}

func attach(e *env, iface, file string, mode loader.Mode) error {
	if mode != loader.ModeAuto && mode != loader.ModeNative && mode != loader.ModeGeneric {
		return usagef("--mode %s: want auto, native or generic", mode)
	}
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	policies := policy.KernelPolicies(c.Policies)
	if len(policies) == 0 {
		return fmt.Errorf("%s: no policy for the kernel (one has layer kernel and a mode other than off)", file)
	}
	return e.change(func(d *loader.StateDir) error {
		a, err := d.Attach(loader.AttachOptions{
			Interface: iface, Mode: mode, Policies: policies, TableEntries: int(c.Table.Entries),
		})
		if err != nil {
			return err
		}
		return e.print(attachmentJSON(a), func(w io.Writer) error {
			if a.NativeRefused != nil {
				fmt.Fprintf(e.err, "weir: %v\n", a.NativeRefused)
			}
			_, err := fmt.Fprintf(w, "attached to %s: %s, %s mode, program %d, %s\n",
				a.Interface, a.Hook, a.Mode, a.Program.ID, plural(len(a.Policies), "policy", "policies"))
			return err
		})
	})
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
