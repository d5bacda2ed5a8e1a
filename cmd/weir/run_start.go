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
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/privilege"
	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/server"
)

// startDaemon takes the state directory, makes the kernel like the file, and gives up the privileges
// that took. Any error but a missing interface is fatal here, where somebody is watching; what is in
// force by then stays in force.
func startDaemon(ctx context.Context, e *env, o runOptions, log *slog.Logger) (_ *daemon, err error) {
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
	if err := privilege.Check(); err != nil {
		return nil, err
	}
	// No wait: the lock is held by a daemon, most likely, and that won't give it up.
	dir, err := loader.Lock(e.stateDir, 0)
	if err != nil {
		return nil, err
	}
	d := &daemon{
		file: o.file, watched: o.watch, dir: dir, log: log, config: c, content: content,
		changes: make(chan linkChange), gaps: make(chan struct{}), looks: make(chan struct{}),
		calls: make(chan func()), stopped: make(chan struct{}),
	}
	d.token.Store(&token)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	// Before anything changes: an address in use shows that something is wrong.
	if d.socket, err = server.ListenSocket(ctx, socketPath(e.runDir)); err != nil {
		return nil, err
	}
	if c.Server.HTTP != "" {
		if d.listener, err = server.Listen(ctx, c.Server.HTTP); err != nil {
			return nil, err
		}
	}
	if err := d.enforce(); err != nil {
		return nil, err
	}
	d.openEvents(e.runDir)
	if d.metrics, err = d.metricsHandler(); err != nil {
		return nil, err
	}
	return d, d.reducePrivileges(e.stateDir)
}

// enforce makes the kernel like the file for the first time.
func (d *daemon) enforce() error {
	namespace, err := netNamespace()
	if err != nil {
		return err
	}
	d.reconciler = &reconciler{kernel: stateKernel{d.dir}, namespace: namespace, exists: interfaceExists, log: d.log}
	want, err := d.plan(d.config)
	if err != nil {
		return err
	}
	if err := d.reconciler.Change(want, time.Now()); err != nil {
		return err
	}
	d.publish()
	return d.reconciler.Prune()
}

// netNamespace is the inode of the network namespace that the daemon works in.
func netNamespace() (uint64, error) {
	const path = "/proc/thread-self/ns/net"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("find out the network namespace: %w (is /proc mounted?)", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return st.Ino, nil
}

// reducePrivileges gives up what is not needed any more, where that is possible.
func (d *daemon) reducePrivileges(stateDir string) error {
	if !onBPFFS(stateDir) {
		// The loader reaches the directory by the mounts of a process that this one descends from. The
		// kernel lets nobody look at those who has fewer capabilities than that process.
		d.log.Warn("all capabilities are kept: the bpf file system is mounted in another mount namespace only",
			"bpffs", stateDir, "mend", "run weir where it is mounted, or mount it here")
		return nil
	}
	err := privilege.Reduce()
	if errors.Is(err, privilege.ErrCgo) {
		d.log.Warn("all capabilities are kept", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	// Root without CAP_DAC_OVERRIDE may not read all files. Better to hear of it now than at a reload.
	f, err := os.Open(d.file)
	if err != nil {
		d.log.Warn("the file can't be read again without the capabilities that were given up: no reload will work",
			"error", err, "mend", "let root own the file and the directories above it")
		return nil
	}
	return f.Close()
}

func onBPFFS(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// components are what runs until the daemon ends.
func (d *daemon) components() []func(context.Context) error {
	watch := &linkWatch{subscribe: netlink.LinkSubscribeWithOptions, changes: d.changes, gaps: d.gaps, log: d.log}
	all := []func(context.Context) error{d.Run, watch.Run, d.newServer(d.socket, true).Run}
	if d.listener != nil {
		all = append(all, d.newServer(d.listener, false).Run)
	}
	if d.top != nil {
		all = append(all, d.runTop)
	}
	if d.watched {
		file := &fileWatch{path: d.file, changes: d.looks, every: resyncEvery, log: d.log}
		all = append(all, file.Run)
	}
	return all
}

func (d *daemon) newServer(l net.Listener, local bool) *server.Server {
	return server.New(server.Options{
		Listener: l, Local: local, StateDir: d.dir.Name(), Token: func() server.Token { return *d.token.Load() },
		Metrics: d.metrics, Readiness: d, Policies: d, Bans: d, Top: d.topHandler(), Log: d.log,
	})
}

func (d *daemon) metricsHandler() (http.Handler, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this instance: %w", err)
	}
	collector, err := metrics.New(metrics.Options{Source: d, Instance: host, Build: buildInfo(), Now: time.Now})
	if err != nil {
		return nil, err
	}
	return metrics.Handler(d.log, collector, metrics.NewReloadCollector(d.Reloads))
}

// buildInfo is what "weir version" shows, as labels.
func buildInfo() metrics.Build {
	build, _ := debug.ReadBuildInfo()
	v := versionOf(version, build)
	return metrics.Build{Version: v.Version, Revision: v.Revision, Go: v.Go}
}

// close gives up the listeners and the state directory.
func (d *daemon) close() error {
	err := d.dir.Close()
	if d.events != nil {
		err = errors.Join(err, d.events.Close())
	}
	for _, l := range []net.Listener{d.listener, d.socket} {
		if l == nil {
			continue
		}
		if closeErr := l.Close(); !errors.Is(closeErr, net.ErrClosed) { // the server closes it
			err = errors.Join(err, closeErr)
		}
	}
	return err
}
