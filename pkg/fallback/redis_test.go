package fallback_test

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/pkg/fallback"
)

// commandTimeout is what calls wait for a Redis at most; a loaded machine gets some more before the test complains.
const (
	commandTimeout = 10 * time.Millisecond
	patience       = 100 * time.Millisecond
)

// silent is for the client's own log, which tells of each connection that fails.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// realRedis is a redis-server of the test's own.
type realRedis struct {
	t      *testing.T
	socket string
	cmd    *exec.Cmd
	client *redis.Client // as decisions use it
	admin  *redis.Client
}

func startRedis(t *testing.T) *realRedis {
	t.Helper()
	r := &realRedis{t: t, socket: filepath.Join(t.TempDir(), "redis.sock")}
	o := redis.Options{Network: "unix", Addr: r.socket, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1}
	decisions := o
	decisions.ReadTimeout, decisions.WriteTimeout, decisions.PoolTimeout = commandTimeout, commandTimeout, commandTimeout
	r.client, r.admin = redis.NewClient(&decisions), redis.NewClient(&o) // the guard's, and the test's
	t.Cleanup(func() { _, _ = r.client.Close(), r.admin.Close() })
	r.start()
	return r
}

func (r *realRedis) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no", "--dir", filepath.Dir(r.socket))
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	cmd := r.cmd
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // of a process that was killed
	})
	until(r.t, "redis-server answers", func() bool { return r.admin.Ping(context.Background()).Err() == nil })
}

func (r *realRedis) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realRedis) must(args ...any) {
	r.t.Helper()
	if err := r.admin.Do(context.Background(), args...).Err(); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

func (r *realRedis) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return r.client.Set(ctx, "probe", "1", time.Minute).Err()
}

// probe is write with more patience: the guard's.
func (r *realRedis) probe(ctx context.Context) error {
	return r.admin.Set(ctx, "probe", "1", time.Minute).Err()
}

// Whatever becomes of Redis, calls wait no longer than its timeout, and two seconds after its return they go to it again.
func TestGuardOfARealRedis(t *testing.T) {
	for _, c := range []struct {
		name  string
		harm  func(*realRedis)
		mend  func(*realRedis)
		class []fallback.Class
	}{
		{"killed", func(r *realRedis) { r.signal(syscall.SIGKILL); _ = r.cmd.Wait() }, func(r *realRedis) { r.start() },
			[]fallback.Class{fallback.Refused, fallback.Closed}},
		{"frozen", func(r *realRedis) { r.signal(syscall.SIGSTOP) }, func(r *realRedis) { r.signal(syscall.SIGCONT) },
			[]fallback.Class{fallback.Timeout}},
		{"a replica", func(r *realRedis) { r.must("REPLICAOF", "127.0.0.1", "1") }, func(r *realRedis) { r.must("REPLICAOF", "NO", "ONE") },
			[]fallback.Class{fallback.Readonly, fallback.Down}},
		{"out of memory", func(r *realRedis) { r.must("CONFIG", "SET", "maxmemory", "1") }, func(r *realRedis) { r.must("CONFIG", "SET", "maxmemory", "0") },
			[]fallback.Class{fallback.OutOfMemory}},
		{"forbidding", func(r *realRedis) { r.must("ACL", "SETUSER", "default", "-set") }, func(r *realRedis) { r.must("ACL", "SETUSER", "default", "+set") },
			[]fallback.Class{fallback.Unauthorized}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			g, err := fallback.New(fallback.Options{Probe: r.probe, Recover: r.probe, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- g.Run(ctx) }()
			defer func() { cancel(); <-done }()
			until(t, "ready", g.Ready)

			c.harm(r)
			longest := time.Duration(0)
			call := func() error {
				began := time.Now()
				err := g.Do(ctx, r.write)
				longest = max(longest, time.Since(began))
				return err
			}
			until(t, "away", func() bool { return errors.Is(call(), fallback.ErrAway) })
			harmed := time.Now()
			until(t, "away for a while", func() bool { _ = call(); return time.Since(harmed) > 1500*time.Millisecond })
			s := g.State()
			known := false
			for _, class := range c.class {
				known = known || s.LastError == class
			}
			if !known || s.Available || s.Opened != 1 {
				t.Errorf("%+v, class %v", s, s.LastError)
			}
			if longest > commandTimeout+patience {
				t.Errorf("a call waited %v", longest)
			}

			c.mend(r)
			mended := time.Now() // it answers
			until(t, "back", func() bool { return call() == nil })
			took := time.Since(mended)
			if took > 2*time.Second {
				t.Errorf("back after %v", took)
			}
			t.Logf("%s: %v; the longest call took %v; back after %v", c.name, s.LastError, longest.Round(time.Microsecond), took.Round(time.Millisecond))
		})
	}
}
