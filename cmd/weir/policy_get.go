package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newPolicyGetCommand(e *env) *cobra.Command {
	var file string
	var cluster bool
	cmd := &cobra.Command{
		Use:   "get [NAME]",
		Short: "Show everything about one policy",
		Long: `Show everything about one policy: as it is in the kernel, with its counters, or as weir run has it if that
answers, or with -f as a file has it.

With --cluster it shows the cluster's policies, as Redis has them: one, or without a name all of them with the
lists, in a form that weir policy apply --cluster -f takes.`,
		Example: "  weir policy get per-client\n  weir policy get per-client -f weir.yaml -o json\n  weir policy get --cluster >set.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if cluster && len(args) == 0 {
				return nil
			}
			return exactArgs(1, "one policy")(cmd, args)
		},
		ValidArgsFunction: completePolicy(e),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cluster {
				return getCluster(cmd.Context(), e, file, args)
			}
			all, err := readListed(cmd.Context(), e, file)
			if err != nil {
				return err
			}
			named := slices.DeleteFunc(slices.Clone(all), func(l listedPolicy) bool { return l.Name != args[0] })
			if len(named) == 0 {
				where := "loaded"
				if file != "" {
					where = "in " + file
				}
				return unknownPolicy(args[0], listedNames(all), where)
			}
			return e.show(policiesView{named}, func(p *page) { writeDetails(p, named) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "show the policy of this configuration file")
	cmd.Flags().BoolVar(&cluster, "cluster", false, "show the cluster's policies, as Redis has them")
	return cmd
}

// withDaemons completes what the kernel tells of policies by what the daemon knows: it has them as they were
// written, and those that are not in the kernel.
func withDaemons(ctx context.Context, c *client, loaded []listedPolicy) ([]listedPolicy, error) {
	var doc policy.Document
	if err := c.ask(ctx, http.MethodGet, "/v1/policies", nil, &doc); err != nil {
		return nil, err
	}
	counted, err := c.requestCounts(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(loaded)
	for _, p := range doc.Policies {
		known := false
		for i := range all {
			if all[i].Name == p.Name && all[i].Layer == p.Layer {
				interfaces, places, counters := all[i].Interfaces, all[i].Places, all[i].Counters
				all[i] = listed(p)
				all[i].Interfaces, all[i].Places, all[i].Counters = interfaces, places, counters
				known = true
			}
		}
		if !known {
			l := listed(p)
			l.Requests = counted[p.Name]
			all = append(all, l)
		}
	}
	return all, nil
}

// requestCounts asks what the policies of layer l7 counted, by their names.
func (c *client) requestCounts(ctx context.Context) (map[string]*limiter.PolicyStats, error) {
	var s limiter.Stats
	if err := c.ask(ctx, http.MethodGet, "/v1/stats", nil, &s); err != nil {
		return nil, err
	}
	counted := make(map[string]*limiter.PolicyStats, len(s.Policies))
	for i := range s.Policies {
		counted[s.Policies[i].Policy] = &s.Policies[i]
	}
	return counted, nil
}

func writeDetails(p *page, all []listedPolicy) {
	for i, l := range all {
		if i > 0 {
			p.printf("\n")
		}
		g := fields("  ")
		g.field("scope", "%s, layer %s", l.Scope, l.Layer)
		g.field("rate", "%s, burst %s", l.Rate, burst(l.source))
		g.field("mode", "%s, priority %d", l.Mode, l.Priority)
		g.field("one bucket for", "%s", bucketsText(l.source))
		g.field("on pressure", "%s", l.OnPressure)
		writeFurther(g, l.source)
		if l.Places != nil {
			g.field("in force at", "%s", strings.Join(l.Places, ", "))
		}
		p.printf("%s\n", p.paint(bold, l.Name))
		g.write(p)
		if l.Counters != nil {
			p.printf("\n")
			writeVerdicts(p, l.Counters)
		}
		if l.Requests != nil {
			p.printf("\n")
			writeRequestVerdicts(p, l.Requests)
		}
	}
}

// writeRequestVerdicts shows what a policy said to the requests that it applied to, whatever others said.
func writeRequestVerdicts(p *page, s *limiter.PolicyStats) {
	note := ""
	if s.Refunded > 0 {
		note = fmt.Sprintf("%s of them denied by another policy, and not charged", thousands(s.Refunded))
	}
	g := grid{indent: "  ", columns: columns("VERDICT", ">REQUESTS", "")}
	g.add(text(string(policy.VerdictPass)), number(s.Allowed+s.Refunded), cell{note, faint})
	g.add(text(string(policy.VerdictDrop)), number(s.Exceeded), text(""))
	g.add(text(string(policy.VerdictShadowDrop)), number(s.ShadowExceeded), text(""))
	g.write(p)
}

func writeVerdicts(p *page, counters map[policy.Verdict]loader.Count) {
	g := grid{indent: "  ", columns: columns("VERDICT", ">PACKETS", ">BYTES")}
	for _, verdict := range policy.Verdicts() {
		g.add(text(string(verdict)), number(counters[verdict].Packets), number(counters[verdict].Bytes))
	}
	g.write(p)
}

// bucketsText says what has a bucket of its own.
func bucketsText(p policy.Policy) string {
	switch p.Scope {
	case policy.ScopePerIP:
		return fmt.Sprintf("each IPv4 /%d, each IPv6 /%d", p.IPv4Prefix, p.IPv6Prefix)
	case policy.ScopePerUser:
		return "each user"
	case policy.ScopePerAPIKey:
		return "each API key"
	case policy.ScopePerEndpoint:
		switch {
		case p.Layer == policy.LayerKernel:
			return "each protocol and local port"
		case len(p.Match.Endpoints) > 0:
			return "each of its endpoints"
		}
		return "each path"
	case policy.ScopeGlobal:
		return "all together"
	case policy.ScopeCustom:
		return "each " + p.Key
	}
	return string(p.Scope)
}

// unknownAnywhere is err, with which the kernel kept what it has of a policy, or did not have it. If what is in
// force in the daemon does not have it either, that is what the user wants to hear, and what there is.
func (e *env) unknownAnywhere(ctx context.Context, name string, err error) error {
	var unknown *unknownPolicyError
	if !kernelHidden(err) && !errors.Is(err, loader.ErrNothingAttached) && !errors.As(err, &unknown) {
		return err
	}
	all, listErr := readInForce(ctx, e)
	names := listedNames(all)
	if listErr != nil || len(names) == 0 || slices.Contains(names, name) {
		return err
	}
	return unknownPolicy(name, names, "loaded")
}
