package main

import (
	"context"

	"github.com/weir-limiter/weir/pkg/server"
)

var _ server.Bans = (*daemon)(nil)

// Bans lists what is banned now. Reading takes nobody's turn.
func (d *daemon) Bans(context.Context) ([]server.Ban, error) { return listBans(d.dir) }

// Ban drops all packets of a prefix for a while.
func (d *daemon) Ban(ctx context.Context, r server.BanRequest) (banned server.Banned, err error) {
	doErr := d.do(ctx, func() { banned, err = ban(d.dir, r, defaultGateways) })
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
	if doErr := d.do(ctx, func() { err = unban(d.dir, prefix) }); doErr != nil {
		return doErr
	}
	if err == nil {
		d.log.Info("ban lifted", "prefix", prefix)
	}
	return err
}
