package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// envoyPackage is the server of envoyproxy/ratelimit. It is a tool of this module, whose go.sum says which.
const envoyPackage = "github.com/envoyproxy/ratelimit/src/service_cmd"

// envoyRules say to envoyproxy/ratelimit what sharedWeirFile says to weir.
const envoyRules = `domain: weir
descriptors:
  - key: user
    rate_limit: {unit: second, requests_per_unit: 100000000}
  - key: remote_address
    rate_limit: {unit: hour, requests_per_unit: 100}
`

// buildEnvoy builds the real server, which takes the better part of a minute the first time.
func buildEnvoy(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "ratelimit")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, envoyPackage)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build envoyproxy/ratelimit: %w: %s (run this in bench/, which pins it)", err, out)
	}
	return binary, nil
}

// startEnvoy starts envoyproxy/ratelimit over a Redis, with settings that make it as fast as it gets: no statistics, no logging,
// no jitter, which would keep keys for minutes that are of no use after a second, and whatever else is given.
func startEnvoy(ctx context.Context, binary, dir string, redis *redisServer, settings ...string) (*server, error) {
	if err := os.MkdirAll(filepath.Join(dir, "weir", "config"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "weir", "config", "weir.yaml"), []byte(envoyRules), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: nameEnvoy, http: freeAddress(), grpc: freeAddress()}
	var log strings.Builder
	s.cmd = exec.CommandContext(ctx, binary)
	s.cmd.Stderr, s.cmd.Stdout = &log, &log
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	s.cmd.Env = append(os.Environ(), "USE_STATSD=false", "DISABLE_STATS=true", "LOG_LEVEL=error", "EXPIRATION_JITTER_MAX_SECONDS=0",
		"RUNTIME_ROOT="+dir, "RUNTIME_SUBDIRECTORY=weir", "RUNTIME_WATCH_ROOT=false",
		"REDIS_SOCKET_TYPE=tcp", "REDIS_URL="+redis.tcp)
	for name, address := range map[string]string{"": s.http, "GRPC_": s.grpc, "DEBUG_": freeAddress()} {
		host, port, _ := net.SplitHostPort(address)
		s.cmd.Env = append(s.cmd.Env, name+"HOST="+host, name+"PORT="+port)
	}
	s.cmd.Env = append(s.cmd.Env, settings...)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start envoyproxy/ratelimit: %w", err)
	}
	if err := s.await(ctx, "/healthcheck"); err != nil {
		return nil, errors.Join(err, s.stop(), errors.New(log.String()))
	}
	return s, nil
}
