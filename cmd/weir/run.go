package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// runOptions are the flags of "weir run".
type runOptions struct {
	file         string
	detachOnExit bool
	watch        bool
	logFormat    string
}

func newRunCommand(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon, in the foreground",
		Long: `Run the daemon, in the foreground. It makes the kernel enforce what the file says and keeps it so: an
interface that is missing, or goes, is attached to when it comes. Interfaces that weir is attached to but
that the file does not list are detached. A file that lists none takes over those that weir is attached to.

The daemon takes over what it finds, every bucket with its state, and leaves it in force when it ends,
however it ends: packets do not need it. The state directory is locked as long as it runs.

Policies of layer l7 it decides over itself, for who asks it: at server.http and on its socket (/v1/check, and
/v1/auth for the proxies that ask before they pass a request on), at server.grpc (Envoy's rate limit service),
and for the requests that it passes on itself, at server.proxy. Their buckets are in its memory,
and end with it; with redis in the file those that nodes share are in Redis, and stay.

A file that lists no interfaces and has no policy of layer kernel asks nothing of the kernel. The daemon then
runs as any user, without a state directory, beside whatever else is attached. It needs a restart to take up
packets later.

The file is loaded again when it changes, and at SIGHUP; so are the files of server.rls_config. The new
policies take the place of the old ones on all interfaces and at layer 7 or nowhere, in one step for packets and
in one for requests, and the buckets of policies that stay keep their state. A file that is not valid, or
that the kernel refuses, changes nothing: the log and /readyz say why. Addresses to listen at, the upstream and
the sizes of tables need a restart. What "weir policy apply" and "delete" change lasts until the file is
loaded again.

  SIGHUP            load the file again, changed or not
  SIGTERM, SIGINT   end

In the runtime directory it listens on weir.sock, where root (and the group of that file, if it is given
one) may change policies and bans. At server.http it answers /metrics for Prometheus, /healthz (it is alive) and /readyz (every interface of
the file is enforced; if not, which ones and why).`,
		Example: "  weir run -c /etc/weir/weir.yaml\n  weir run -c requests.yaml --run-dir /tmp/weir     # requests alone: as any user\n  weir run -c weir.yaml --detach-on-exit --log-format json",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(e, o.logFormat)
			if err != nil {
				return err
			}
			return runDaemon(cmd.Context(), e, o, log)
		},
	}
	cmd.Flags().StringVarP(&o.file, "config", "c", "/etc/weir/weir.yaml", "configuration file")
	cmd.Flags().BoolVar(&o.watch, "watch", true, "load the file again when it changes")
	cmd.Flags().BoolVar(&o.detachOnExit, "detach-on-exit", false, "detach everything at the end, instead of leaving it in force")
	cmd.Flags().StringVar(&o.logFormat, "log-format", "text", "text or json")
	completeWith(cmd, "log-format", "text", "json")
	return cmd
}

func newLogger(e *env, format string) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if e.debug {
		options.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(e.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(e.err, options)), nil
	}
	return nil, usagef("--log-format %q: want text or json", format)
}

// runDaemon is the daemon's life: start, serve until ctx ends, stop.
func runDaemon(ctx context.Context, e *env, o runOptions, log *slog.Logger) (err error) {
	// Before anything else: until somebody listens to it a SIGHUP ends the process.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)

	d, err := startDaemon(ctx, e, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	d.hangups = hangups
	log.Info("weir runs", append([]any{"config", o.file}, d.where(e)...)...)

	g, ctx := errgroup.WithContext(ctx)
	for _, component := range d.components() {
		g.Go(func() error { return component(ctx) })
	}
	return errors.Join(g.Wait(), d.leave(o.detachOnExit))
}

// where tells where the daemon works, for the log.
func (d *daemon) where(e *env) []any {
	where := []any{"http", addressOf(d.open.http), "socket", socketPath(e.runDir)}
	if d.open.grpc != nil {
		where = append(where, "grpc", addressOf(d.open.grpc))
	}
	if d.open.proxy != nil {
		where = append(where, "proxy", addressOf(d.open.proxy))
	}
	if d.packets == nil {
		return append(where, "limits", "requests alone: the file asks nothing of the kernel")
	}
	return append(where, "bpffs", e.stateDir)
}

// leave ends the daemon's work in the kernel.
func (d *daemon) leave(detach bool) error {
	switch {
	case d.packets == nil:
		d.log.Info("weir stops; no request is limited any more")
		return nil
	case !detach:
		d.log.Info("weir stops; what is attached stays in force", "undo", "weir detach --all")
		return nil
	}
	d.log.Info("weir stops, and detaches")
	if err := d.packets.reconciler.DetachAll(); err != nil {
		return fmt.Errorf("detach on exit: %w", err)
	}
	return nil
}
