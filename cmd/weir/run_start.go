package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/server"
)

// startDaemon takes the state directory if the file has something for the kernel, opens the listeners,
// makes the kernel and layer 7 like the file, and gives up the privileges that took. Any error but a
// missing interface is fatal here, where somebody is watching; what is in force by then stays in force.
func startDaemon(ctx context.Context, e *env, o runOptions, log *slog.Logger) (*daemon, error) {
	d, err := openDaemon(ctx, e, o, log)
	if err != nil {
		return nil, err
	}
	if err := d.reducePrivileges(e.stateDir); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// openDaemon is startDaemon with all the privileges that there are.
func openDaemon(ctx context.Context, e *env, o runOptions, log *slog.Logger) (_ *daemon, err error) {
	data, content, err := readContent(o.file)
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(o.file, data)
	if err != nil {
		return nil, err
	}
	token, err := readToken(c)
	if err != nil {
		return nil, err
	}
	d := &daemon{
		file: o.file, stateDir: e.stateDir, watched: o.watch, log: log, config: c,
		looks: make(chan struct{}), moved: make(chan struct{}, 1), calls: make(chan func()), stopped: make(chan struct{}),
	}
	d.token.Store(&token)
	d.further.Store(&c.Server.RLSConfig)
	d.content = d.withFurther(content)
	if d.sharing, err = openSharing(c, log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.requests, err = newRequests(c, d.sharing, log); err != nil {
		return nil, err
	}
	if kernelNeed(c) != "" {
		if d.packets, err = openPackets(e.stateDir, o.file, log); err != nil {
			return nil, err
		}
		d.stateDir = d.packets.dir.Name()
		if d.sharing != nil {
			d.sharing.kernel = newSharedKernel(d.packets.dir, e.runDir, d.sharing)
		}
	}
	if d.sharing != nil {
		if err := makePolicyCache(c, log); err != nil {
			return nil, err
		}
		d.openClusterPolicies(d.sharing.slow, d.sharing.name)
	}
	// Before anything changes: an address in use shows that something is wrong.
	if d.open, err = listen(ctx, e.runDir, c.Server); err != nil {
		return nil, err
	}
	if err := d.requests.serve(d.open, c.Server); err != nil {
		return nil, err
	}
	if err := d.enforce(); err != nil {
		return nil, err
	}
	if d.packets != nil {
		d.packets.openEvents(e.runDir, d.attachments)
	}
	if d.metrics, err = d.metricsHandler(); err != nil {
		return nil, err
	}
	return d, nil
}

// enforce puts the file in force for the first time.
func (d *daemon) enforce() error {
	if !d.restoreCluster() {
		if err := d.change(d.config); err != nil {
			return err
		}
	}
	d.publish()
	if d.packets == nil {
		return nil
	}
	return d.packets.reconciler.Prune()
}

// components are what runs until the daemon ends.
func (d *daemon) components() []func(context.Context) error {
	all := []func(context.Context) error{d.Run, d.newServer(d.open.socket, true).Run}
	if d.open.http != nil {
		all = append(all, d.newServer(d.open.http, false).Run)
	}
	all = append(all, d.requests.components()...)
	if d.packets != nil {
		watch := &linkWatch{subscribe: netlink.LinkSubscribeWithOptions, changes: d.packets.changes, gaps: d.packets.gaps, log: d.log}
		all = append(all, watch.Run)
		if d.packets.top != nil {
			all = append(all, d.packets.runTop)
		}
	}
	if d.sharing != nil {
		all = append(all, d.sharing.run)
	}
	if d.cluster != nil {
		all = append(all, d.cluster.follower.Run)
	}
	if d.watched {
		file := &fileWatch{
			path: d.file, further: func() []string { return *d.further.Load() }, moved: d.moved,
			changes: d.looks, every: resyncEvery, log: d.log,
		}
		all = append(all, file.Run)
	}
	return all
}

func (d *daemon) newServer(l net.Listener, local bool) *server.Server {
	return server.New(server.Options{
		Listener: l, Local: local, StateDir: d.stateDir, Token: func() server.Token { return *d.token.Load() },
		Metrics: d.metrics, Readiness: d, Policies: d, Cluster: d, Standing: d, Bans: d, Top: d.topHandler(), Log: d.log,
		Checker: d.requests.limiter, Identity: d.requests, Headers: d.requests.dialect,
		Figures: d.requests.limiter, Buckets: d.requests.limiter,
	})
}

func (d *daemon) metricsHandler() (http.Handler, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this instance: %w", err)
	}
	o := metrics.Options{Instance: host, Build: buildInfo(), Now: time.Now, RequestPolicies: d.requests.policies}
	if d.packets != nil {
		o.Source = d
	}
	collector, err := metrics.New(o)
	if err != nil {
		return nil, err
	}
	atLayer7 := metrics.NewLimiterCollector(metrics.LimiterOptions{Source: d.requests, Instance: host, Now: time.Now})
	return metrics.Handler(d.log, collector, atLayer7, metrics.NewClusterCollector(d), metrics.NewReloadCollector(d.Reloads))
}

// buildInfo is what "weir version" shows, as labels.
func buildInfo() metrics.Build {
	build, _ := debug.ReadBuildInfo()
	v := versionOf(version, build)
	return metrics.Build{Version: v.Version, Revision: v.Revision, Go: v.Go}
}

// close gives up the listeners and the state directory.
func (d *daemon) close() error {
	err := d.open.close()
	if d.sharing != nil {
		err = errors.Join(err, d.sharing.close())
	}
	if d.packets != nil {
		err = errors.Join(err, d.packets.close())
	}
	return err
}
