package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

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
already, the policies are replaced in one step, and every bucket keeps its state.

At xdp packets are judged before the kernel has spent anything on them, at tc-ingress before the stack sees
them, where the driver has no XDP or another program has it, and at tc-egress on their way out, from buckets of
its own. At both xdp and tc-ingress of one interface every packet is charged twice.

  --mode native, generic   of xdp: in the driver, or in the stack, which costs more for each packet
  --mode tcx, clsact       of tc: by a link beside other programs, or as a filter, on kernels before 6.6`,
		Example: `  weir attach eth0 -c /etc/weir/weir.yaml
  weir attach eth0 -c weir.yaml --mode native
  weir attach eth0 -c weir.yaml --hook tc-egress`,
		Args:              exactArgs(1, "one interface"),
		ValidArgsFunction: completeInterface,
		RunE: func(_ *cobra.Command, args []string) error {
			return attach(e, args[0], file, loader.Hook(hook), loader.Mode(mode))
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "/etc/weir/weir.yaml", "configuration file")
	cmd.Flags().StringVar(&hook, "hook", "xdp", "xdp, tc-ingress or tc-egress")
	cmd.Flags().StringVar(&mode, "mode", "auto", "auto; native or generic of xdp; tcx or clsact of tc")
	return cmd
}

func attach(e *env, iface, file string, hook loader.Hook, mode loader.Mode) error {
	if err := checkHook(hook); err != nil {
		return err
	}
	if !slices.Contains(hook.Modes(), mode) {
		return usagef("--mode %s: want %s at %s", mode, oneOf(hook.Modes()), hook)
	}
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	at := policy.Place{Interface: iface, Direction: config.Hook(hook).Direction()}
	policies := policy.KernelPoliciesAt(c.Policies, at)
	if len(policies)+len(c.Allow)+len(c.Deny) == 0 {
		return fmt.Errorf("%s: nothing for the kernel at %s of %s: no list, and no policy of layer kernel whose mode is not off and whose match.interfaces and match.direction fit", file, hook, iface)
	}
	return e.change(func(d *loader.StateDir) error {
		a, err := d.Attach(loader.AttachOptions{
			Interface: iface, Hook: hook, Mode: mode, TableEntries: int(c.Table.Entries),
			Policies: policies, Allow: c.Allow, Deny: c.Deny,
		})
		if err != nil {
			return err
		}
		all, err := d.Attachments()
		if err != nil {
			return err
		}
		e.warnUnmet(c, all)
		e.warnRequests(c.Policies)
		e.warnTwice(all, a)
		return e.print(attachmentJSON(a), func(w io.Writer) error {
			if a.Refused != nil {
				fmt.Fprintf(e.err, "weir: %v\n", a.Refused)
			}
			if fault := pacingFault(a); fault != "" {
				fmt.Fprintf(e.err, "weir: %s\n", fault)
			}
			_, err := fmt.Fprintf(w, "attached to %s: %s, %s mode, program %d, %s\n",
				a.Interface, a.Hook, a.Mode, a.Program.ID, plural(len(a.Policies), "policy", "policies"))
			return err
		})
	})
}

// checkHook holds that a hook is one that there is.
func checkHook(hook loader.Hook) error {
	if !slices.Contains(loader.Hooks(), hook) {
		return usagef("--hook %s: want %s", hook, oneOf(loader.Hooks()))
	}
	return nil
}

// oneOf is a list for people: "a, b or c".
func oneOf[T ~string](all []T) string {
	var b strings.Builder
	for i, v := range all {
		switch {
		case i == 0:
		case i == len(all)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(v))
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
