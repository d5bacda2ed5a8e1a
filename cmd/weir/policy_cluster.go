package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

const clusterApplyHelp = `With --cluster the file's policies and lists become those of the whole cluster: weir run stores them in Redis as
the next version, and every node takes them up, at once or not at all, in place of those of its own file, also
when that is loaded again or the node starts anew. A node that can't take a version keeps the one before, and
says so in its log, /readyz and weir policy list --cluster. Redis keeps the set while any node runs, and for
redis.default_ttl, or 30 days if that is more, after the last one ended.

Of two who store a version at once one gets a conflict, and nothing of theirs is stored. --expect N holds that the
version is still N which the change was made for. With --clear every node goes back to its own file.`

const clusterApplyExamples = `  weir policy apply --cluster -f weir.yaml --dry-run
  weir policy get --cluster >set.yaml           # prints the version; edit the file, and:
  weir policy apply --cluster -f set.yaml --expect 7
  weir policy apply --cluster --clear           # each node has its own file's again`

// clusterFlags say how the cluster's policies are to be changed.
type clusterFlags struct {
	cluster, force, clear bool
	expect                int64 // -1: whatever there is
}

func (f *clusterFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.cluster, "cluster", false, "change the policies of the whole cluster, in Redis")
	cmd.Flags().Int64Var(&f.expect, "expect", -1, "with --cluster: only if that is the version there is (0: none)")
	cmd.Flags().BoolVar(&f.force, "force", false, "with --cluster: whatever version is there by then, even if it can't be read")
	completeWith(cmd, "expect")
}

// check holds that the flags make sense together. given tells whether there is something to put in force.
func (f *clusterFlags) check(given bool) error {
	switch {
	case !f.cluster && (f.force || f.clear || f.expect != -1):
		return usagef("--expect, --force and --clear are for the policies of the cluster: add --cluster")
	case f.clear && given:
		return usagef("--clear and -f contradict one another: leave one out")
	case f.force && f.expect != -1:
		return usagef("--force and --expect contradict one another: leave one out")
	case f.expect < -1:
		return usagef("--expect %d: want a version, or 0 for none", f.expect)
	}
	return nil
}

// changeCluster makes a change of the cluster's policies, and shows what it did.
func changeCluster(ctx context.Context, e *env, method, path string, body any, f clusterFlags, dryRun bool) error {
	c, err := e.needDaemon(ctx)
	if err != nil {
		return err
	}
	q := url.Values{"dry_run": {strconv.FormatBool(dryRun)}, "force": {strconv.FormatBool(f.force)}, "by": {loginName()}}
	if f.expect >= 0 {
		q.Set("expect", strconv.FormatInt(f.expect, 10))
	}
	var applied server.ClusterApplied
	if err := c.ask(ctx, method, "/v1/cluster/policies"+path+"?"+q.Encode(), body, &applied); err != nil {
		return err
	}
	return e.show(applied, func(p *page) { writeClusterApplied(p, &applied) })
}

// loginName is who the user is, for the others to ask back.
func loginName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(os.Getuid())
}

func writeClusterApplied(p *page, a *server.ClusterApplied) {
	writeApplied(p, &a.Applied)
	if a.DryRun {
		p.printf("the cluster is at version %d\n", a.Version)
		return
	}
	p.printf("version %d of the cluster\n", a.Version)
	if a.Pending != "" {
		p.printf("%s\n", p.paint(yellow, "stored, and not in force on the node that was asked: "+a.Pending))
	}
}

// readCluster asks for the cluster's policies.
func readCluster(ctx context.Context, e *env, file string) (set server.ClusterSet, err error) {
	if file != "" {
		return set, usagef("--cluster and -f contradict one another: leave one out")
	}
	c, err := e.needDaemon(ctx)
	if err != nil {
		return set, err
	}
	return set, c.ask(ctx, http.MethodGet, "/v1/cluster/policies", nil, &set)
}

// getCluster shows one of the cluster's policies, or all in a form that apply takes.
func getCluster(ctx context.Context, e *env, file string, args []string) error {
	set, err := readCluster(ctx, e, file)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return e.show(set, func(p *page) { writeSet(p, &set) })
	}
	i := slices.IndexFunc(set.Document.Policies, func(q policy.Policy) bool { return q.Name == args[0] })
	if i < 0 {
		return unknownPolicy(args[0], listedNames(listAll(set.Document)), fmt.Sprintf("in version %d of the cluster", set.Version))
	}
	one := []listedPolicy{listed(set.Document.Policies[i])}
	return e.show(policiesView{one}, func(p *page) { writeDetails(p, one) })
}

// writeSet writes a file: JSON is YAML.
func writeSet(p *page, set *server.ClusterSet) {
	if set.Version == 0 || set.Cleared {
		p.printf("# %s\n", clusterHead(set))
		return
	}
	text, err := json.MarshalIndent(set.Document, "", "  ")
	if err != nil {
		p.err = err
		return
	}
	p.printf("# %s\n# to change it: weir policy apply --cluster -f FILE --expect %d\n%s\n", clusterHead(set), set.Version, text)
}

// clusterHead says in a line what the cluster has.
func clusterHead(set *server.ClusterSet) string {
	if set.Version == 0 {
		return "the cluster has no policies of its own: each node has those of its file (store some: weir policy apply --cluster -f FILE)"
	}
	what := fmt.Sprintf("version %d of the cluster's policies, stored by %s at %s", set.Version, set.By, localTime(*set.At))
	if set.Cleared {
		return what + ": there are none, and each node has those of its file"
	}
	return what
}

func listAll(doc policy.Document) []listedPolicy {
	all := []listedPolicy{}
	for _, p := range doc.Policies {
		all = append(all, listed(p))
	}
	return all
}

// listCluster lists the cluster's policies, and which node has which version.
func listCluster(ctx context.Context, e *env, file string) error {
	set, err := readCluster(ctx, e, file)
	if err != nil {
		return err
	}
	return e.show(set, func(p *page) {
		p.printf("%s\n", clusterHead(&set))
		if set.Version > 0 && !set.Cleared {
			p.printf("%s\n", p.paint(faint, fmt.Sprintf("sha256 %s, %s as %s; allow has %d entries, deny %d", set.Sum, memorySize(uint64(set.Size)), set.Encoding,
				len(set.Document.Allow), len(set.Document.Deny))))
		}
		if len(set.Document.Policies) > 0 {
			p.printf("\n")
			writeListed(p, listAll(set.Document))
		}
		writeNodes(p, &set)
	})
}

func writeNodes(p *page, set *server.ClusterSet) {
	if len(set.Nodes) == 0 {
		return
	}
	p.printf("\n")
	g := grid{columns: columns("NODE", ">VERSION", "TOLD", "")}
	for _, n := range set.Nodes {
		version, note := text(strconv.FormatUint(n.Version, 10)), cell{}
		switch {
		case n.Reason != "" && n.Refused > 0:
			note = cell{fmt.Sprintf("refuses version %d: %s", n.Refused, n.Reason), red}
		case n.Reason != "":
			note = cell{n.Reason, red}
		case n.Version != set.Version:
			version.style, note = yellow, cell{"behind", yellow}
		}
		g.add(cell{n.Node, bold}, version, cell{strings.TrimSpace(span(n.Ago.Truncate(time.Second))) + " ago", faint}, note)
	}
	g.write(p)
}
