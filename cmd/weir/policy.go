package main

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newPolicyCommand(e *env) *cobra.Command {
	cmd := group("policy", "Show and change policies, check those of a file, explain what they do",
		"Show the policies that are in force and change them, check or show those of a configuration file, and explain\nwhich of them apply to a packet or a request.")
	cmd.AddCommand(
		newPolicyListCommand(e), newPolicyGetCommand(e), newPolicyApplyCommand(e), newPolicyDeleteCommand(e),
		newPolicyValidateCommand(e), newPolicyExplainCommand(e),
	)
	return cmd
}

// group is a command that only has subcommands. cobra by itself takes a wrong one for success.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return usagef("unknown command %q (see: %s --help)", args[0], c.CommandPath())
		},
	}
}

func newPolicyListCommand(e *env) *cobra.Command {
	var file string
	var cluster bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the policies that are in force, or those of a file",
		Long: `List the policies that are in force, those of layer kernel where weir is attached and those of layer l7 in weir
run, or those of a file. With --cluster it lists the cluster's policies, as Redis has them, and which node has
which version of them.`,
		Example: "  weir policy list\n  weir policy list -f /etc/weir/weir.yaml\n  weir policy list --cluster",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cluster {
				return listCluster(cmd.Context(), e, file)
			}
			all, err := readListed(cmd.Context(), e, file)
			if err != nil {
				return err
			}
			return e.show(policiesView{all}, func(p *page) {
				switch {
				case len(all) > 0:
					writeListed(p, all)
				case file != "":
					p.printf("%s: no policies\n", file)
				default:
					p.printf("no policy is loaded (state directory %s), and no weir run has one\nbegin with: weir attach IFACE -c FILE, or weir run -c FILE\n", e.stateDir)
				}
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "list the policies of this configuration file")
	cmd.Flags().BoolVar(&cluster, "cluster", false, "list the cluster's policies, and which node has which version")
	return cmd
}

// policiesView is the JSON of weir policy list and get.
type policiesView struct {
	Policies []listedPolicy `json:"policies"`
}

// listedPolicy is a policy with where it is. In JSON it is a policyView and more.
type listedPolicy struct {
	policyView
	Layer      policy.Layer `json:"layer"`
	Rate       string       `json:"rate"`
	Interfaces []string     `json:"interfaces,omitempty"` // that enforce it; none for a file's
	Places     []string     `json:"places,omitempty"`     // the same with their hooks: "eth0 xdp"
	// Requests is what weir run counted for a policy of layer l7.
	Requests *limiter.PolicyStats `json:"requests,omitempty"`
	source   policy.Policy
}

// readListed reads the policies of the file, or without one those that are in force.
func readListed(ctx context.Context, e *env, file string) ([]listedPolicy, error) {
	if file == "" {
		return readInForce(ctx, e)
	}
	c, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	return listFile(c), nil
}

// readInForce reads the policies in the kernel, and completes them by what the daemon knows.
func readInForce(ctx context.Context, e *env) ([]listedPolicy, error) {
	all := []listedPolicy{}
	err := e.inspect(func(_ *loader.StateDir, attached []loader.Attachment) error {
		all = mergeLoaded(attached)
		return nil
	})
	denied := kernelHidden(err)
	if err != nil && !denied {
		return nil, err
	}
	c, askErr := e.daemon(ctx)
	switch {
	case c == nil && denied:
		return nil, err
	case askErr != nil:
		return nil, askErr
	case c == nil:
		return all, nil
	}
	// Who may ask the daemon need not be able to look into the kernel.
	return withDaemons(ctx, c, all)
}

func listFile(c *config.Config) []listedPolicy {
	all := []listedPolicy{}
	for _, p := range c.Policies {
		all = append(all, listed(p))
	}
	return all
}

func listed(p policy.Policy) listedPolicy {
	return listedPolicy{policyView: policyJSON(p), Layer: p.Layer, Rate: p.Rate(), source: p}
}

// mergeLoaded lists each policy once, with all the interfaces that have it, and its counters summed
// over them. Two that have a name in common and nothing else stay two.
func mergeLoaded(attached []loader.Attachment) []listedPolicy {
	all := []listedPolicy{}
	for i := range attached {
		a := &attached[i]
		for _, l := range a.Policies {
			at := slices.IndexFunc(all, func(have listedPolicy) bool { return reflect.DeepEqual(have.source, l.Policy) })
			if at < 0 {
				at = len(all)
				all = append(all, listed(l.Policy))
				all[at].Counters = map[policy.Verdict]loader.Count{}
			}
			all[at].Interfaces = appendNew(all[at].Interfaces, place(a))
			all[at].Places = append(all[at].Places, fmt.Sprintf("%s %s", place(a), a.Hook))
			for verdict, n := range a.Counters.Policies[l.Name] {
				sum := all[at].Counters[verdict]
				all[at].Counters[verdict] = loader.Count{Packets: sum.Packets + n.Packets, Bytes: sum.Bytes + n.Bytes}
			}
		}
	}
	return all
}

func listedNames(all []listedPolicy) []string {
	var names []string
	for _, l := range all {
		if !slices.Contains(names, l.Name) {
			names = append(names, l.Name)
		}
	}
	return names
}

func loadedNames(attached []loader.Attachment) []string { return listedNames(mergeLoaded(attached)) }

// unknownPolicyError is a policy that is not where it was looked for.
type unknownPolicyError struct {
	name, where string
	known       []string
}

func (e *unknownPolicyError) Error() string {
	known := "none"
	if len(e.known) > 0 {
		known = strings.Join(e.known, ", ")
	}
	return fmt.Sprintf("no policy %q is %s (there are: %s)", e.name, e.where, known)
}

func unknownPolicy(name string, known []string, where string) error {
	return &unknownPolicyError{name, where, known}
}

func writeListed(p *page, all []listedPolicy) {
	titles := []string{"POLICY", "SCOPE", "RATE", ">BURST", "LAYER", "MODE", ">PRIORITY", "PREFIX", "ON PRESSURE"}
	loaded := slices.ContainsFunc(all, func(l listedPolicy) bool { return l.Interfaces != nil })
	if loaded {
		titles = append(titles, "INTERFACES")
	}
	// What most policies have none of is no column then.
	narrowed := slices.ContainsFunc(all, func(l listedPolicy) bool { return matchText(l.source.Match) != "" })
	noted := slices.ContainsFunc(all, func(l listedPolicy) bool { return notesText(l.source) != "" })
	if narrowed {
		titles = append(titles, "ONLY")
	}
	if noted {
		titles = append(titles, "ALSO")
	}
	g := grid{columns: columns(titles...)}
	for _, l := range all {
		row := []cell{
			{l.Name, bold}, text(string(l.Scope)), text(l.Rate), text(burst(l.source)), text(string(l.Layer)), modeCell(l.Mode),
			text(fmt.Sprint(l.Priority)), text(prefixes(l.source)), text(string(l.OnPressure)),
		}
		if loaded {
			row = append(row, text(strings.Join(l.Interfaces, ", ")))
		}
		if narrowed {
			row = append(row, text(matchText(l.source.Match)))
		}
		if noted {
			row = append(row, text(notesText(l.source)))
		}
		g.add(row...)
	}
	g.write(p)
}

func modeCell(m policy.Mode) cell {
	return cell{string(m), map[policy.Mode]style{policy.ModeShadow: yellow, policy.ModeOff: faint}[m]}
}

func prefixes(p policy.Policy) string {
	if p.Scope != policy.ScopePerIP {
		return ""
	}
	return fmt.Sprintf("/%d /%d", p.IPv4Prefix, p.IPv6Prefix)
}

// completePolicy completes the first argument with the names of the loaded policies.
func completePolicy(e *env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := readInForce(cmd.Context(), e)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return listedNames(all), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeInterface completes with the interfaces of this network namespace.
func completeInterface(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []cobra.Completion
	for _, i := range interfaces {
		names = append(names, i.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
