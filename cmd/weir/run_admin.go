package main

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

var (
	_ server.Bans     = (*daemon)(nil)
	_ server.Policies = (*daemon)(nil)
)

// noBans is the answer to who asks a daemon for bans that has nothing to do with the kernel.
func noBans() error {
	return server.NewProblem(http.StatusNotFound, "bans are for packets: %v", errRequestsOnly)
}

// Bans lists what is banned now. Reading takes nobody's turn.
func (d *daemon) Bans(context.Context) ([]server.Ban, error) {
	if d.packets == nil {
		return nil, noBans()
	}
	return listBans(d.packets.dir)
}

// Ban drops all packets of a prefix for a while.
func (d *daemon) Ban(ctx context.Context, r server.BanRequest) (banned server.Banned, err error) {
	if d.packets == nil {
		return banned, noBans()
	}
	doErr := d.do(ctx, func() { banned, err = ban(d.packets.dir, r, defaultGateways) })
	if doErr != nil {
		return banned, doErr
	}
	if err == nil {
		d.log.Info("banned", "prefix", banned.Prefix, "for", banned.Left, "replaced", banned.Replaced)
	}
	return banned, err
}

// Unban lifts the ban of a prefix.
func (d *daemon) Unban(ctx context.Context, prefix string) (err error) {
	if d.packets == nil {
		return noBans()
	}
	if doErr := d.do(ctx, func() { err = unban(d.packets.dir, prefix) }); doErr != nil {
		return doErr
	}
	if err == nil {
		d.log.Info("ban lifted", "prefix", prefix)
	}
	return err
}

// lastsUntilReload is for how long the admin API's changes are good.
const lastsUntilReload = "until the file is loaded again, at a change of it, at SIGHUP, or when weir run starts anew"

// Document is what is in force: the file's, or what was applied since.
func (d *daemon) Document(ctx context.Context) (doc policy.Document, err error) {
	err = d.do(ctx, func() { doc = d.config.Document() })
	return doc, err
}

// Change puts in force what edit makes of what is, on all interfaces or on none.
func (d *daemon) Change(ctx context.Context, edit server.Edit, dryRun bool) (applied server.Applied, err error) {
	if doErr := d.do(ctx, func() { applied, err = d.edit(edit, dryRun) }); doErr != nil {
		return applied, doErr
	}
	return applied, err
}

func (d *daemon) edit(edit server.Edit, dryRun bool) (server.Applied, error) {
	before := d.config.Document()
	after, err := edit(before)
	if err != nil {
		return server.Applied{}, err
	}
	store := d.config.Store()
	if faults := after.ValidateFor(store); faults != nil {
		return server.Applied{}, server.Invalid(faults)
	}
	after = after.WithStore(store)
	applied, err := compare(before, after)
	applied.DryRun, applied.Lasts = dryRun, d.lasts()
	if err != nil || reflect.DeepEqual(before, after) {
		return applied, err
	}
	next := *d.config
	next.Policies, next.Allow, next.Deny = after.Policies, after.Allow, after.Deny
	prepared, err := d.prepare(&next)
	if err != nil {
		return server.Applied{}, refusal(err)
	}
	if dryRun {
		return applied, nil
	}
	if err := d.put(&next, prepared); err != nil {
		d.log.Error("the admin API's change is refused; what was in force still is", "error", err)
		return server.Applied{}, server.NewProblem(http.StatusInternalServerError, "nothing has changed: %v", err)
	}
	now := time.Now()
	d.origin.Applied = &now
	d.log.Info("policies were changed by the admin API", "policies", len(after.Policies), "allow", len(after.Allow), "deny", len(after.Deny),
		"lasts", applied.Lasts)
	return applied, nil
}

// refusal is why a change can't be made, for who asked for it.
func refusal(err error) error {
	if invalid, ok := errors.AsType[*limiter.InvalidError](err); ok {
		return server.Invalid(invalid.Faults)
	}
	if errors.Is(err, errRequestsOnly) {
		return server.NewProblem(http.StatusConflict, "nothing has changed: %v", err)
	}
	return server.NewProblem(http.StatusInternalServerError, "nothing has changed: %v", err)
}
