package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// How long changes are good where there are cluster's policies.
const (
	lastsInCluster = "on every node of the cluster, instead of what their files say, until it is changed again with --cluster"
	lastsCleared   = "on every node of the cluster: each has the policies of its own file"
	lastsBesides   = "on this node alone, until the cluster's policies change, the file is loaded again, or weir run starts anew"
)

// clusterPolicies is the daemon's part in the policies of its cluster. As long as the cluster has a set, that takes the place
// of the file's policies and lists, at a reload too; the rest of the file stays what it is.
type clusterPolicies struct {
	store    *ratesync.PolicyStore
	follower *ratesync.PolicyFollower
	// The goroutine of Run owns these: what the file has, and what the cluster has that takes its place; nil: nothing.
	own policy.Document
	set *policy.Document
}

var _ server.ClusterPolicies = (*daemon)(nil)

// openClusterPolicies makes the daemon follow the policies of its cluster; it asks nothing of Redis yet, which the file has
// to have. The client's timeouts have to be those of [ratesync.PolicyClient].
func (d *daemon) openClusterPolicies(client ratesync.PolicyClient, node string) {
	r := d.config.Redis
	store := ratesync.NewPolicyStore(ratesync.PolicyStoreOptions{
		Client: client, Prefix: r.KeyPrefix, Cluster: r.Cluster, TTL: r.DefaultTTL, Compress: r.Compression,
	})
	d.cluster = &clusterPolicies{
		store: store, own: d.config.Document(),
		follower: ratesync.NewPolicyFollower(ratesync.PolicyFollowerOptions{
			Store: store, Node: node, Apply: d.applyCluster, Path: d.config.Fallback.PolicyCache, Log: d.log,
		}),
	}
}

// restoreCluster puts the cluster's policies in force that were kept when the daemon ran last, before it runs; false: those of
// the file are to be.
func (d *daemon) restoreCluster() bool {
	return d.cluster != nil && d.cluster.follower.Restore(func(doc *policy.Document) error {
		if doc == nil {
			return nil // the file's
		}
		d.cluster.set = doc
		err := d.change(withDocument(d.config, *doc))
		if err != nil {
			d.cluster.set = nil
		}
		return err
	})
}

// withDocument is a configuration with other policies and lists. A set is stored as it was written, as nodes may differ in what
// they do without their store.
func withDocument(c *config.Config, doc policy.Document) *config.Config {
	next := *c
	doc = doc.WithStore(c.Store())
	next.Policies, next.Allow, next.Deny = doc.Policies, doc.Allow, doc.Deny
	return &next
}

// applyCluster puts the cluster's policies in force, nil for those of the file.
func (d *daemon) applyCluster(ctx context.Context, doc *policy.Document) (err error) {
	doErr := d.do(ctx, func() {
		next := doc
		if next == nil {
			next = &d.cluster.own
		}
		if with := withDocument(d.config, *next); !reflect.DeepEqual(d.config.Document(), with.Document()) {
			err = d.change(with)
		}
		if err == nil {
			d.cluster.set, d.origin.Applied = doc, nil
		}
	})
	return errors.Join(doErr, err)
}

// version is that of the set in force; 0: the cluster has none.
func (c *clusterPolicies) version() uint64 {
	if c == nil {
		return 0
	}
	if s := c.follower.InForce(); s != nil && !s.Cleared {
		return s.Version
	}
	return 0
}

// overCluster is what is to be in force of a file that was read: with the cluster's policies, if there are any.
func (d *daemon) overCluster(file *config.Config) *config.Config {
	if d.cluster == nil || d.cluster.set == nil {
		return file
	}
	d.log.Info("the cluster's policies take the place of the file's (weir policy apply --cluster --clear ends that)", "version", d.cluster.version())
	return withDocument(file, *d.cluster.set)
}

// reloadedCluster remembers the policies of a file that was loaded, for when the cluster has none any more.
func (d *daemon) reloadedCluster(file *config.Config) {
	if d.cluster != nil {
		d.cluster.own = file.Document()
		d.cluster.follower.Retry() // the file may have changed what this node can take
	}
}

// lasts is for how long a change of this node's policies is good.
func (d *daemon) lasts() string {
	if d.cluster != nil && d.cluster.set != nil {
		return lastsBesides
	}
	return lastsUntilReload
}

// warnings are what is wrong with following the cluster's policies, fit for everybody's eyes.
func (c *clusterPolicies) warnings() []string {
	if c == nil {
		return nil
	}
	var all []string
	st := c.follower.Status()
	switch {
	case st.Reason != "" && st.Refused > 0:
		all = append(all, fmt.Sprintf("version %d of the cluster's policies is refused by this node, and what was in force still is: %s", st.Refused, st.Reason))
	case st.Reason != "":
		all = append(all, fmt.Sprintf("%s, and what was in force still is", st.Reason))
	}
	if st.Fault != "" { // which may have addresses in it
		all = append(all, "Redis can't be asked for the cluster's policies, and what was in force still is: see the log")
	}
	if st.Unkept != "" {
		all = append(all, "the cluster's policies can't be kept on disk, and a start without Redis will not have them: see the log")
	}
	return all
}

// noCluster is the answer to who asks a daemon without Redis for the cluster's policies.
func noCluster() error {
	return server.NewProblem(http.StatusNotFound, "this daemon is on its own, and there is no cluster to have policies (write redis: {url: ...} into its file, and restart it; without --cluster the change is for this node alone)")
}

// ClusterSet is what the cluster has, as Redis has it now.
func (d *daemon) ClusterSet(ctx context.Context) (all server.ClusterSet, err error) {
	if d.cluster == nil {
		return all, noCluster()
	}
	set, err := d.cluster.store.Get(ctx)
	if err != nil {
		return all, clusterProblem(err)
	}
	nodes, err := d.cluster.store.Nodes(ctx)
	if err != nil {
		return all, clusterProblem(err)
	}
	all.Nodes = []server.ClusterNode{}
	for _, n := range nodes {
		all.Nodes = append(all.Nodes, server.ClusterNode{Node: n.Node, Version: n.Version, Refused: n.Refused, Reason: n.Reason, Ago: n.Ago})
	}
	if set != nil {
		all.Version, all.Cleared, all.Sum, all.By, all.At = set.Version, set.Cleared, set.Sum, set.By, &set.At
		all.Encoding, all.Size, all.Document = set.Encoding, set.Size, set.Document
	}
	return all, nil
}

// clusterProblem is an error of the store, for who asked.
func clusterProblem(err error) error {
	if _, ok := errors.AsType[*ratesync.PolicyConflictError](err); ok || errors.Is(err, ratesync.ErrPolicySet) {
		return server.NewProblem(http.StatusConflict, "%v", err)
	}
	return server.NewProblem(http.StatusServiceUnavailable, "%v: see weir status, and weir doctor -c FILE; what is in force still is, and weir policy list --cluster tells what is stored once Redis answers", err)
}

// ChangeCluster stores what a change makes of the cluster's policies, if this node could take it.
func (d *daemon) ChangeCluster(ctx context.Context, c server.ClusterChange) (applied server.ClusterApplied, err error) {
	if d.cluster == nil {
		return applied, noCluster()
	}
	over, err := d.cluster.store.Get(ctx)
	if err != nil && (!c.Force || !errors.Is(err, ratesync.ErrPolicySet)) {
		return applied, clusterProblem(err)
	}
	if over != nil {
		applied.Version = over.Version
	}
	if c.Expect != nil && *c.Expect != applied.Version {
		return applied, clusterProblem(&ratesync.PolicyConflictError{Want: *c.Expect, Have: over})
	}
	next, err := d.planCluster(ctx, over, c, &applied)
	if err != nil || c.DryRun || !c.Force && unchangedSet(over, next) {
		return applied, err
	}
	set, err := d.cluster.store.Put(ctx, ratesync.PolicyPut{Document: next, Over: over, Force: c.Force, Above: d.cluster.follower.InForce(), By: d.writer(c.By)})
	if err != nil {
		return applied, clusterProblem(err)
	}
	applied.Version = set.Version
	d.log.Info("the cluster's policies were changed by the admin API", "version", set.Version, "by", set.By, "cleared", set.Cleared, "policies", len(set.Document.Policies))
	_ = d.cluster.follower.Poll(ctx) // is logged; the set is stored whatever becomes of it here
	applied.Pending = d.pending(set)
	return applied, nil
}

// planCluster makes the set that there is to be, nil for none, and tells what becomes of each policy. That this node can't take
// it is an error: it is the one that can be asked.
func (d *daemon) planCluster(ctx context.Context, over *ratesync.PolicySet, c server.ClusterChange, applied *server.ClusterApplied) (*policy.Document, error) {
	var own policy.Document
	var shared policy.Store
	if err := d.do(ctx, func() { own, shared = d.cluster.own, d.config.Store() }); err != nil {
		return nil, err
	}
	before, known := own, over != nil && !over.Cleared
	if known {
		before = over.Document
	}
	after, next, lasts := own, (*policy.Document)(nil), lastsCleared
	if c.Edit != nil {
		if !known && !c.Whole {
			return nil, server.NewProblem(http.StatusNotFound, "the cluster has no policies of its own: each node has those of its file (store some with weir policy apply --cluster -f FILE)")
		}
		var err error
		if after, err = c.Edit(before); err != nil {
			return nil, err
		}
		next, lasts = &after, lastsInCluster
	}
	if faults := after.ValidateFor(shared); faults != nil {
		return nil, server.Invalid(faults)
	}
	var err error
	if applied.Applied, err = compare(before.WithStore(shared), after.WithStore(shared)); err != nil {
		return nil, err
	}
	applied.DryRun, applied.Lasts = c.DryRun, lasts
	doErr := d.do(ctx, func() {
		if _, err = d.prepare(withDocument(d.config, after)); err != nil {
			err = refusal(err)
		}
	})
	return next, errors.Join(doErr, err)
}

// unchangedSet tells whether what is there is what there is to be.
func unchangedSet(over *ratesync.PolicySet, next *policy.Document) bool {
	if over == nil || next == nil {
		return next == nil && (over == nil || over.Cleared)
	}
	return !over.Cleared && reflect.DeepEqual(over.Document, *next)
}

// writer is who stores a set: as they say, and by which node.
func (d *daemon) writer(by string) string {
	node := d.cluster.follower.Node()
	if by == "" {
		return node
	}
	return by + " at " + node
}

// pending is why a set that was stored is not in force on this node; empty: it is.
func (d *daemon) pending(set *ratesync.PolicySet) string {
	st := d.cluster.follower.Status()
	switch {
	case st.Set != nil && st.Set.Sum == set.Sum:
		return ""
	case st.Reason != "":
		return st.Reason
	case st.Fault != "":
		return st.Fault
	}
	return "another change came after it at " + time.Now().UTC().Format(time.TimeOnly)
}
