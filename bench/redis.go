package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

// poolSize is how many connections to Redis everybody has: weir's default, and that of envoyproxy/ratelimit.
const poolSize = 10

// redisServer is a real redis-server in a process of its own, which keeps nothing on disk.
type redisServer struct {
	server
	dir    string
	socket string // a unix socket
	tcp    string // an address of loopback
	admin  *redis.Client
}

// withRedis starts a redis-server for a measurement, in a directory that goes with it.
func withRedis(ctx context.Context, measure func(*redisServer) error) (err error) {
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := startRedis(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.admin.Close(), s.stop()) }()
	return measure(s)
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	s := &redisServer{dir: dir, socket: filepath.Join(dir, "redis.sock"), tcp: freeAddress()}
	_, port, _ := strings.Cut(s.tcp, ":")
	s.cmd = exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--unixsocket", s.socket, "--unixsocketperm", "700",
		"--save", "", "--appendonly", "no", "--dir", dir, "--logfile", filepath.Join(dir, "redis.log"))
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w (scripts/deps.sh installs it)", err)
	}
	s.admin = s.client(1)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := s.admin.Ping(ctx).Err()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "redis.log"))
			return nil, errors.Join(fmt.Errorf("redis-server does not answer: %w: %s", err, log), s.stop())
		}
	}
}

// client is a pool of connections by the unix socket.
func (s *redisServer) client(connections int) *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, PoolSize: connections, MinIdleConns: connections})
}

// operations are what a Redis has done.
type operations struct {
	asked  float64 // commands that clients sent
	inside float64 // commands that scripts ran
}

// operations reads Redis' own counts, which have its caller's commands in them.
func (s *redisServer) operations(ctx context.Context) (o operations, err error) {
	text, err := s.admin.Info(ctx, "commandstats").Result()
	if err != nil {
		return o, fmt.Errorf("ask Redis for its counts: %w", err)
	}
	for line := range strings.Lines(text) {
		name, values, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		var n float64
		if _, err := fmt.Sscanf(values, "%f,", &n); !ok || err != nil {
			continue
		}
		if fromClients[name] {
			o.asked += n
		} else {
			o.inside += n
		}
	}
	return o, nil
}

// fromClients are the commands that no script of weir's runs. A name with a | is a subcommand.
var fromClients = map[string]bool{
	"evalsha": true, "eval": true, "ping": true, "hello": true, "client|setinfo": true, "client|setname": true, "script|load": true,
	"multi": true, "exec": true, "info": true, "publish": true, "subscribe": true,
}
