package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// server is a process that answers.
type server struct {
	name       string
	http, grpc string // addresses; empty: none
	timed      string // of HTTP, with timeouts
	cmd        *exec.Cmd
}

// The servers' names.
const (
	nameEmptyHTTP  = "an empty net/http handler"
	nameTimedHTTP  = "the same with timeouts"
	nameAuth       = "weir /v1/auth"
	nameEmptyRLS   = "an empty RLS server"
	nameRLS        = "weir RLS"
	nameSharedRLS  = "weir RLS, leased"
	nameEnvoy      = "envoyproxy/ratelimit"
	nameEnvoyTuned = "envoyproxy/ratelimit, tuned"
)

// serveEmpty is this program as a child: it answers 200, and OK, to everything, until its standard input
// ends, which it does with its parent.
func serveEmpty(addresses io.Writer) error {
	var listeners [3]net.Listener
	for i := range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listeners[i] = l
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	rls := grpc.NewServer()
	ratelimit.RegisterRateLimitServiceServer(rls, emptyRLS{})
	// Those that a server has to have that anybody can reach.
	timed := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	failed := make(chan error, 4)
	go func() { failed <- http.Serve(listeners[0], handler) }()
	go func() { failed <- rls.Serve(listeners[1]) }()
	go func() { failed <- timed.Serve(listeners[2]) }()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	fmt.Fprintf(addresses, "%s %s %s\n", listeners[0].Addr(), listeners[1].Addr(), listeners[2].Addr())
	return <-failed
}

type emptyRLS struct {
	ratelimit.UnimplementedRateLimitServiceServer
}

func (emptyRLS) ShouldRateLimit(_ context.Context, r *ratelimit.RateLimitRequest) (*ratelimit.RateLimitResponse, error) {
	return &ratelimit.RateLimitResponse{
		OverallCode: ratelimit.RateLimitResponse_OK,
		Statuses:    []*ratelimit.RateLimitResponse_DescriptorStatus{{Code: ratelimit.RateLimitResponse_OK}},
	}, nil
}

// startEmpty starts serveEmpty.
func startEmpty(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, childFlag)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{name: "empty", cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &s.http, &s.grpc, &s.timed)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the empty servers: %w", err), s.stop())
	}
	return s, nil
}

// weirFile limits every client that a request names, as people do: nobody is denied, so that what both
// servers send is much the same.
const weirFile = `server:
  http: %s
  grpc: %s
  trusted_proxies: [127.0.0.1]
policies:
  - {name: per-user, scope: per_user, limit: 100000000, window: 1s}
`

// startWeir starts the daemon in a directory of its own. The file has its addresses in it.
func startWeir(ctx context.Context, binary, dir, contents string) (*server, error) {
	s := &server{name: "weir", http: freeAddress(), grpc: freeAddress()}
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, contents, s.http, s.grpc), 0o600); err != nil {
		return nil, err
	}
	var log strings.Builder
	s.cmd = exec.CommandContext(ctx, binary, "run", "-c", file, "--run-dir", dir, "--bpffs", filepath.Join(dir, "none"))
	s.cmd.Stderr = &log
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start weir: %w (make build makes it)", err)
	}
	if err := s.await(ctx, "/readyz"); err != nil {
		return nil, errors.Join(err, s.stop(), errors.New(log.String()))
	}
	return s, nil
}

// await waits until a server says that it is well.
func (s *server) await(ctx context.Context, path string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + s.http + path)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s does not answer on %s", s.name, s.http)
		}
	}
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) stop() error {
	err := s.cmd.Process.Signal(unix.SIGTERM)
	_ = s.cmd.Wait() // that it was ended by a signal is no news
	return err
}
