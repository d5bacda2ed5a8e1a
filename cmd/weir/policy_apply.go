package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

func newPolicyApplyCommand(e *env) *cobra.Command {
	var file string
	var dryRun bool
	var cluster clusterFlags
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Put a file's policies and lists in force, in place of those that are",
		Long: `Put the policies, allow and deny of a configuration file in force, in place of those that are, wherever weir
is attached and at layer 7: everywhere or nowhere, in one step for packets and in one for requests. Buckets of
policies that keep their name keep their state. Interfaces, table and server of the file are not looked at.

If weir run answers on its socket it makes the change, which lasts until it loads its own file again. Else
the change is made in the kernel, as by weir attach, and lasts; policies of layer l7 then have nobody to
enforce them.

It prints what becomes of each policy. With --dry-run nothing else happens.

` + clusterApplyHelp,
		Example: "  weir policy apply -f weir.yaml --dry-run\n  weir policy apply -f weir.yaml\n" + clusterApplyExamples,
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cluster.check(file != ""); err != nil {
				return err
			}
			if cluster.clear {
				return changeCluster(cmd.Context(), e, http.MethodDelete, "", nil, cluster, dryRun)
			}
			if file == "" {
				return usagef("want a file: -f weir.yaml, for example")
			}
			doc, err := config.LoadDocument(file)
			if err != nil {
				return err
			}
			if cluster.cluster {
				return changeCluster(cmd.Context(), e, http.MethodPut, "", doc, cluster, dryRun)
			}
			put := order{
				method: http.MethodPut, path: "/v1/policies", body: doc,
				edit: func(policy.Document) (policy.Document, error) { return doc, nil },
			}
			return changePolicies(cmd.Context(), e, put, dryRun)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "configuration file")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would change")
	cluster.add(cmd)
	cmd.Flags().BoolVar(&cluster.clear, "clear", false, "with --cluster: the cluster has no policies any more, and each node those of its file")
	return cmd
}

func newPolicyDeleteCommand(e *env) *cobra.Command {
	var dryRun bool
	var cluster clusterFlags
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Take one policy out of force",
		Long: `Take one policy out of force, wherever weir is attached. The others stay as they are. If weir run answers on
its socket it makes the change, which lasts until it loads its own file again. With --cluster it is taken out of
the cluster's policies, for all nodes.`,
		Example:           "  weir policy delete per-client\n  weir policy delete per-client --cluster",
		Args:              exactArgs(1, "one policy"),
		ValidArgsFunction: completePolicy(e),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cluster.check(true); err != nil {
				return err
			}
			if cluster.cluster {
				return changeCluster(cmd.Context(), e, http.MethodDelete, "/"+url.PathEscape(args[0]), nil, cluster, dryRun)
			}
			del := order{
				method: http.MethodDelete, path: "/v1/policies/" + url.PathEscape(args[0]), edit: server.WithoutPolicy(args[0]), policy: args[0],
			}
			return changePolicies(cmd.Context(), e, del, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would change")
	cluster.add(cmd)
	return cmd
}

// order is a change of policies, as a request to the daemon and as what it amounts to.
type order struct {
	method, path string
	body         any
	edit         server.Edit
	policy       string // the one that it is about; empty: all
}

// concerns tells whether an order is for a daemon. One that limits requests alone has nothing to do with a
// policy that somebody attached beside it.
func (o order) concerns(ctx context.Context, c *client) (bool, error) {
	if c == nil || o.policy == "" {
		return c != nil, nil
	}
	state, err := c.state(ctx)
	if err != nil || !state.RequestsOnly {
		return true, err
	}
	var doc policy.Document
	err = c.ask(ctx, http.MethodGet, "/v1/policies", nil, &doc)
	return slices.ContainsFunc(doc.Policies, func(p policy.Policy) bool { return p.Name == o.policy }), err
}

func changePolicies(ctx context.Context, e *env, o order, dryRun bool) error {
	c, err := e.daemon(ctx)
	if err != nil {
		return err
	}
	its, err := o.concerns(ctx, c)
	if err != nil {
		return err
	}
	var applied server.Applied
	switch {
	case its:
		err = c.ask(ctx, o.method, o.path+"?dry_run="+strconv.FormatBool(dryRun), o.body, &applied)
	case dryRun:
		err = e.inspect(func(d *loader.StateDir, all []loader.Attachment) (err error) {
			applied, _, err = planHere(e, all, o.edit)
			applied.DryRun = true
			return err
		})
	default:
		err = e.change(func(d *loader.StateDir) (err error) {
			applied, err = applyHere(e, d, o.edit)
			return err
		})
	}
	if err != nil && !its && o.policy != "" {
		return e.unknownAnywhere(ctx, o.policy, err)
	}
	if err != nil {
		return err
	}
	return e.show(applied, func(p *page) { writeApplied(p, &applied) })
}

// lastsPinned is for how long a change is good that no daemon made.
const lastsPinned = "until it is changed again, or weir run starts with its own file"

// planHere tells what an edit of what is attached changes, and gives the whole of what is to be.
func planHere(e *env, all []loader.Attachment, edit server.Edit) (applied server.Applied, after policy.Document, err error) {
	if len(all) == 0 {
		return applied, after, nothingAttached(e)
	}
	if after, err = edit(selfContained(loadedDocument(all))); err != nil {
		return applied, after, err
	}
	// What is reconciled stays so, though nobody does it: weir run may come back, and has the store.
	if faults := after.Validate(); faults != nil {
		return applied, after, server.Invalid(faults)
	}
	after = after.WithStore(policy.Store{})
	for i := range all {
		at := policy.Place{Interface: all[i].Interface, Direction: config.Hook(all[i].Hook).Direction()}
		there := policy.Document{Policies: policy.KernelPoliciesAt(after.Policies, at), Allow: after.Allow, Deny: after.Deny}
		one, err := compare(loadedDocument(all[i:i+1]), there)
		if err != nil {
			return applied, after, err
		}
		applied = mergeApplied(applied, one)
	}
	applied.Lasts = lastsPinned
	return applied, after, nil
}

// applyHere makes a change without a daemon.
func applyHere(e *env, d *loader.StateDir, edit server.Edit) (server.Applied, error) {
	all, err := d.Attachments()
	if err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		return server.Applied{}, err
	}
	applied, after, err := planHere(e, all, edit)
	if err != nil {
		return applied, err
	}
	if _, err := d.Apply(after); err != nil {
		return applied, fmt.Errorf("nothing has changed: %w", err)
	}
	e.warnRequests(after.Policies)
	return applied, nil
}

// loadedDocument is what the programs in the kernel were made of, each policy once. Where two of a name
// differ it is the first.
func loadedDocument(all []loader.Attachment) policy.Document {
	var d policy.Document
	known := map[string]bool{}
	for i := range all {
		// Every program has all of the lists.
		d.Allow, d.Deny = all[i].Lists.Allow, all[i].Lists.Deny
		for _, l := range all[i].Policies {
			if !known[l.Name] {
				known[l.Name] = true
				d.Policies = append(d.Policies, l.Policy)
			}
		}
	}
	return d
}

// selfContained takes out of replaces what is in force nowhere: as a policy is only where it can match, it
// may replace one that is not among those that are loaded.
func selfContained(d policy.Document) policy.Document {
	there := map[string]bool{}
	for _, p := range d.Policies {
		there[p.Name] = true
	}
	for i := range d.Policies {
		p := &d.Policies[i]
		p.Replaces = slices.DeleteFunc(slices.Clone(p.Replaces), func(name string) bool { return !there[name] })
	}
	return d
}

// mergeApplied joins what becomes of policies at two places: what changes at one of them changes.
func mergeApplied(a, b server.Applied) server.Applied {
	if a.Policies == nil {
		return b
	}
	rank := map[server.Outcome]int{
		server.OutcomeUnchanged: 0, server.OutcomeRemoved: 1, server.OutcomeAdded: 2, server.OutcomeChanged: 3,
	}
	at := map[string]int{}
	for i, c := range a.Policies {
		at[c.Policy] = i
	}
	for _, c := range b.Policies {
		i, known := at[c.Policy]
		switch {
		case !known:
			a.Policies = append(a.Policies, c)
		case rank[c.Outcome] > rank[a.Policies[i].Outcome]:
			a.Policies[i] = c
		}
	}
	return a
}

func writeApplied(p *page, a *server.Applied) {
	looks := map[server.Outcome]struct {
		sign  string
		style style
	}{
		server.OutcomeAdded: {"+", green}, server.OutcomeChanged: {"~", yellow},
		server.OutcomeRemoved: {"-", red}, server.OutcomeUnchanged: {" ", faint},
	}
	changes := 0
	for _, c := range a.Policies {
		look := looks[c.Outcome]
		p.printf("%s\n", p.paint(look.style, fmt.Sprintf("%s %-9s  %s", look.sign, c.Outcome, c.Policy)))
		for _, f := range c.Fields {
			p.printf("      %s: %s -> %s\n", f.Field, p.paint(red, jsonText(f.From)), p.paint(green, jsonText(f.To)))
		}
		if c.Outcome != server.OutcomeUnchanged {
			changes++
		}
	}
	for _, l := range []struct {
		name string
		list server.ListChange
	}{{"allow", a.Allow}, {"deny", a.Deny}} {
		changes += writeListChange(p, l.name, l.list)
	}
	switch {
	case changes == 0:
		p.printf("nothing changes\n")
	case a.DryRun:
		p.printf("\nnothing was changed: this is a dry run\n")
	default:
		p.printf("\nin force %s\n", a.Lasts)
	}
}

func writeListChange(p *page, name string, l server.ListChange) int {
	for _, prefix := range l.Added {
		p.printf("%s\n", p.paint(green, fmt.Sprintf("+ %s %s", name, prefix)))
	}
	for _, prefix := range l.Removed {
		p.printf("%s\n", p.paint(red, fmt.Sprintf("- %s %s", name, prefix)))
	}
	return len(l.Added) + len(l.Removed)
}

// jsonText is a value of a field as people write it in the file.
func jsonText(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
