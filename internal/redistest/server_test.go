package redistest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func get(t *testing.T, s *Server, key, want string) {
	t.Helper()
	got, err := s.CLI("GET", key)
	if err != nil || got != want {
		t.Errorf("%s is %q, %v; want %q", key, got, err, want)
	}
}

func TestServer(t *testing.T) {
	s := Start(t, Options{})
	if _, err := s.CLI("SET", "a", "1"); err != nil {
		t.Fatal(err)
	}
	get(t, s, "a", "1")
	if _, err := s.CLI("LPUSH", "a", "1"); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("an error of Redis is none: %v", err)
	}
	Must(t, s.FlushAll())
	get(t, s, "a", "")

	if _, err := s.CLI("SET", "a", "2"); err != nil {
		t.Fatal(err)
	}
	before := s.Pid()
	Must(t, s.Restart())
	get(t, s, "a", "")
	if s.Pid() == before || s.Pid() == 0 {
		t.Errorf("process %d after %d", s.Pid(), before)
	}
	Must(t, s.Kill())
	if conn, err := net.Dial("tcp", s.Addr); err == nil {
		conn.Close()
		t.Error("it listens, killed")
	}
	if err := s.Freeze(); err == nil {
		t.Error("froze what is not there")
	}
	Must(t, s.Restart())
}

// TestFreeze asks a frozen server, which takes the connection and says nothing.
func TestFreeze(t *testing.T) {
	s := Start(t, Options{})
	Must(t, s.Freeze())
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 7)
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(answer); err == nil {
		t.Errorf("a frozen server says %q", answer[:n])
	}
	Must(t, s.Thaw())
	conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "+PONG\r\n" {
		t.Errorf("a thawed server says %q, %v", answer[:n], err)
	}
}

// TestDiesWithParent kills a process that has a server.
func TestDiesWithParent(t *testing.T) {
	if dir := os.Getenv("WEIR_REDISTEST_CHILD"); dir != "" {
		s, err := Launch(Options{})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("listens at " + s.Addr + "\n" + s.Dir + "\n")
		<-context.Background().Done()
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestDiesWithParent$")
	child.Env = append(os.Environ(), "WEIR_REDISTEST_CHILD=1")
	var out testutil.Log
	child.Stdout = &out
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	Must(t, until(func() error {
		if len(out.Lines()) < 2 {
			return os.ErrNotExist
		}
		return nil
	}))
	addr := strings.TrimPrefix(out.Lines()[0], "listens at ")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	Must(t, child.Process.Kill())
	_ = child.Wait() // killed
	defer os.RemoveAll(out.Lines()[1])
	Must(t, until(func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return nil
		}
		conn.Close()
		return os.ErrExist
	}))
}

func TestTLSAndUser(t *testing.T) {
	s := Start(t, Options{TLS: true, User: "somebody", Password: "secret"})
	get(t, s, "a", "")
	out, err := exec.Command("redis-cli", "-h", "127.0.0.1", "-p", strings.Split(s.Addr, ":")[1], "--tls", "--cacert", s.TLS.CA,
		"--cert", s.TLS.ClientCert, "--key", s.TLS.ClientKey, "--user", "somebody", "--pass", "secret", "--no-auth-warning", "PING").CombinedOutput()
	if err != nil || string(out) != "PONG\n" {
		t.Errorf("%s, %v", out, err)
	}
}

func TestClusterWithReplicas(t *testing.T) {
	c := StartCluster(t, ClusterOptions{Replicas: true})
	if len(c.Masters) != masters || len(c.Replicas) != masters {
		t.Fatalf("%d masters, %d replicas", len(c.Masters), len(c.Replicas))
	}
	Must(t, c.Masters[1].Kill())
	Must(t, until(func() error {
		role, err := c.Replicas[1].CLI("ROLE")
		if err == nil && !strings.HasPrefix(role, "master") {
			err = os.ErrNotExist
		}
		return err
	}))
}

// TestLeavesNothing looks for directories and goroutines of servers that were closed.
func TestLeavesNothing(t *testing.T) {
	testutil.NoLeaks(t)
	s, err := Launch(Options{})
	if err != nil {
		t.Fatal(err)
	}
	Must(t, s.Close())
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", s.Dir, err)
	}
	if _, err := Launch(Options{Config: []string{"no-such-line"}}); err == nil || !strings.Contains(err.Error(), "no-such-line") {
		t.Errorf("a server with a bad configuration: %v", err)
	}
}
