package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a server may take to do what it does at once on an idle machine.
const patience = 20 * time.Second

// Options say what server to start. The zero value is one on a free loopback port and a socket.
type Options struct {
	// Host is the address to listen at; "": 127.0.0.1. With Command it may be one of another namespace.
	Host string
	// Port is the port to listen at; 0: a free one of this namespace.
	Port int
	// Command goes before redis-server, such as "ip", "netns", "exec", "name". It has to end by becoming it.
	Command []string
	// Config are further lines of its configuration.
	Config []string
	// User and Password of an ACL user that may do anything; the default user may then do nothing.
	User, Password string
	// TLS makes the port one of TLS, for clients with a certificate of the same authority: see [Server.TLS].
	TLS bool

	sentinel bool
}

// Server is a redis-server that runs, or is to run again.
type Server struct {
	Addr   string // host:port
	Socket string // path of its unix socket; "" of a sentinel
	URL    string // redis:// or rediss://, with user and password
	Dir    string // its own, removed at the end
	TLS    *Certificates

	o    Options
	args []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Launch starts a server and waits until it answers.
func Launch(o Options) (*Server, error) {
	s, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func prepare(o Options) (*Server, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		port, err := freePort(o.Host)
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		o.Port = port
	}
	dir, err := os.MkdirTemp("", "weir-redis-")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), Dir: dir, o: o}
	if err := s.configure(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func (s *Server) configure() error {
	o := &s.o
	lines := []string{
		"bind " + o.Host, "dir " + s.Dir, "daemonize no", "protected-mode no", "loglevel warning",
		"logfile " + filepath.Join(s.Dir, "log"),
	}
	if !o.sentinel {
		s.Socket = filepath.Join(s.Dir, "redis.sock")
		lines = append(lines, "unixsocket "+s.Socket, "unixsocketperm 600", `save ""`, "appendonly no")
	}
	scheme, port := "redis", "port "+strconv.Itoa(o.Port)
	if o.TLS {
		c, err := NewCertificates(s.Dir, o.Host)
		if err != nil {
			return err
		}
		s.TLS, scheme = c, "rediss"
		port = "port 0\ntls-port " + strconv.Itoa(o.Port)
		lines = append(lines, "tls-cert-file "+c.ServerCert, "tls-key-file "+c.ServerKey, "tls-ca-cert-file "+c.CA, "tls-auth-clients yes")
	}
	lines = append(lines, port)
	login := ""
	if o.User != "" {
		lines = append(lines, "user default off", "user "+o.User+" on >"+o.Password+" ~* &* +@all")
		login = o.User + ":" + o.Password + "@"
	}
	s.URL = scheme + "://" + login + s.Addr
	file := filepath.Join(s.Dir, "redis.conf")
	s.args = append(append([]string{}, o.Command...), "redis-server", file)
	if o.sentinel {
		s.args = append(s.args, "--sentinel")
	}
	return os.WriteFile(file, []byte(strings.Join(append(lines, o.Config...), "\n")+"\n"), 0o600)
}

// start runs the server. The kernel kills it when the thread that started it ends, so that one waits with it, locked, for
// as long as it runs.
func (s *Server) start() error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return fmt.Errorf("%w (install the package redis-server, as scripts/deps.sh does)", err)
	}
	var output bytes.Buffer
	cmd := exec.Command(s.args[0], s.args[1:]...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed in the end
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", s.args[0], err)
	}
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	err := until(func() error {
		select {
		case <-done:
			return fmt.Errorf("it ended: %s%s: %w", output.String(), s.log(), errEnded)
		default:
		}
		answer, err := s.CLI("PING")
		if err == nil && answer != "PONG" {
			err = errors.New(answer)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for redis-server: %w", err)
	}
	return nil
}

var errEnded = errors.New("redis-server ended")

// until tries for as long as it makes sense.
func until(try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || errors.Is(err, errEnded) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *Server) log() string {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(text)
}

// Pid is the process that runs, or 0.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Kill ends it at once, and what it had in memory is lost.
func (s *Server) Kill() error {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill redis-server: %w", err)
	}
	<-done
	return nil
}

// Freeze stops it as it stands, with all connections open, and Thaw lets it go on.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errEnded
	}
	return s.cmd.Process.Signal(sig)
}

// Restart kills it if it runs, and starts it at the same port and socket with nothing in it.
func (s *Server) Restart() error {
	if err := s.Kill(); err != nil {
		return err
	}
	return s.start()
}

// FlushAll makes it lose its data.
func (s *Server) FlushAll() error {
	_, err := s.CLI("FLUSHALL")
	return err
}

// CLI runs redis-cli, and returns what it printed without the last newline. An error of Redis is one.
func (s *Server) CLI(args ...string) (string, error) {
	all := []string{"-e"}
	if s.Socket != "" {
		all = append(all, "-s", s.Socket)
	} else {
		all = append(all, "-h", s.o.Host, "-p", strconv.Itoa(s.o.Port))
	}
	command := "redis-cli"
	if s.Socket == "" && len(s.o.Command) != 0 {
		all = append(append(append([]string{}, s.o.Command[1:]...), command), all...)
		command = s.o.Command[0]
	}
	cmd := exec.Command(command, append(all, args...)...)
	if s.o.User != "" {
		cmd.Args = append(append([]string{cmd.Args[0]}, "--user", s.o.User), cmd.Args[1:]...)
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+s.o.Password)
	}
	out, err := cmd.CombinedOutput()
	text := strings.TrimSuffix(string(out), "\n")
	if err != nil {
		return text, fmt.Errorf("redis-cli: %w: %s", err, text)
	}
	return text, nil
}

// Close kills it and removes its directory.
func (s *Server) Close() error { return errors.Join(s.Kill(), os.RemoveAll(s.Dir)) }

// freePort finds a port that nobody listens at, nor at that which Redis adds 10000 to for a cluster.
func freePort(host string) (int, error) {
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		bus := port + 10000
		if bus > 65535 {
			continue
		}
		if l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(bus))); err != nil {
			continue
		}
		l.Close()
		return port, nil
	}
}
