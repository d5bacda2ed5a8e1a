package nodes

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
)

// store is a redis-server in a host's network.
type store struct {
	t    *testing.T
	host *lab.Host
	dir  string
	log  *testutil.Log
	cmd  *exec.Cmd
	done chan struct{}
	way  *delayed
}

// newStore starts one that keeps nothing on disk, and a way to it that can be slow.
func newStore(t *testing.T, host *lab.Host) *store {
	t.Helper()
	s := &store{t: t, host: host, dir: t.TempDir(), log: &testutil.Log{}}
	s.start()
	s.way = newDelayed(t, host, redisPort+1, redisPort)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			lines := s.log.Lines()
			t.Logf("log of redis, its end:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
	return s
}

// url is where nodes find it: by the way that can be slow.
func (s *store) url() string { return fmt.Sprintf("redis://%s:%d", s.host.IPv4, redisPort+1) }

func (s *store) start() {
	s.t.Helper()
	cmd := exec.Command("redis-server", "--port", fmt.Sprint(redisPort), "--bind", "0.0.0.0", "--protected-mode", "no",
		"--save", "", "--appendonly", "no", "--dir", s.dir, "--repl-diskless-load", "disabled")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := s.host.Do(cmd.Start); err != nil {
		s.t.Fatalf("%v (run: scripts/deps.sh)", err)
	}
	done := make(chan struct{})
	s.cmd, s.done = cmd, done
	go func() { defer close(done); _ = cmd.Wait() }()
	eventually(s.t, "redis to answer", func() error { _, err := s.try("PING"); return err })
}

func (s *store) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

func (s *store) signal(sig unix.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// try runs a command by redis-cli, so that nothing of weir's is on the way.
func (s *store) try(args ...string) (string, error) {
	cmd := exec.Command("redis-cli", append([]string{"-p", fmt.Sprint(redisPort), "-e"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.host.Do(cmd.Start); err != nil {
		return "", err
	}
	err := cmd.Wait()
	if err != nil {
		err = fmt.Errorf("redis-cli %s: %w: %s", args, err, out.String())
	}
	return strings.TrimSpace(out.String()), err
}

// do is try that has to succeed.
func (s *store) do(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// operations is how many scripts Redis has run for nodes: what is done within them is no round trip.
func (s *store) operations() int {
	s.t.Helper()
	return scriptsRun(s.do("INFO", "commandstats"))
}

// scriptsRun reads it from what Redis says of its commands.
func scriptsRun(info string) (n int) {
	for line := range strings.Lines(info) {
		for _, command := range []string{"evalsha", "eval"} {
			var calls int
			if _, err := fmt.Sscanf(line, "cmdstat_"+command+":calls=%d,", &calls); err == nil {
				n += calls
			}
		}
	}
	return n
}

// busy is how long Redis has had a processor.
func (s *store) busy() (d time.Duration) {
	s.t.Helper()
	for line := range strings.Lines(s.do("INFO", "cpu")) {
		for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
			var seconds float64
			if _, err := fmt.Sscanf(line, name+":%f", &seconds); err == nil {
				d += time.Duration(seconds * float64(time.Second))
			}
		}
	}
	return d
}

// cutOff changes the rules of a host's network: no packet comes through to this port, or from it.
func cutOff(t *testing.T, host *lab.Host, port int) (mend func()) {
	t.Helper()
	nft := func(args ...string) {
		t.Helper()
		cmd := exec.Command("nft", args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := host.Do(cmd.Start)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("nft %s: %v: %s", args, err, out.String())
		}
	}
	nft(fmt.Sprintf("table inet fault { chain in { type filter hook input priority 0; tcp dport %d drop; tcp sport %d drop; }; chain out { type filter hook output priority 0; tcp dport %d drop; tcp sport %d drop; }; }",
		port, port, port, port))
	return func() { nft("delete table inet fault") }
}

// delayed is a way to a port on which bytes take some time, in both directions.
type delayed struct {
	delay    atomic.Int64
	listener net.Listener
	host     *lab.Host
	to       string

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newDelayed(t *testing.T, host *lab.Host, from, to int) *delayed {
	t.Helper()
	d := &delayed{host: host, to: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(to)).String(), conns: map[net.Conn]struct{}{}}
	err := host.Do(func() (err error) {
		d.listener, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", from))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.wg.Add(1)
	go d.accept()
	t.Cleanup(func() {
		_ = d.listener.Close()
		d.hangUp()
		d.wg.Wait()
	})
	return d
}

func (d *delayed) accept() {
	defer d.wg.Done()
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return
		}
		var far net.Conn
		if err := d.host.Do(func() (err error) { far, err = net.Dial("tcp4", d.to); return err }); err != nil {
			_ = near.Close()
			continue
		}
		d.mu.Lock()
		d.conns[near], d.conns[far] = struct{}{}, struct{}{}
		d.mu.Unlock()
		d.wg.Add(2)
		go d.pass(near, far)
		go d.pass(far, near)
	}
}

// hangUp ends all connections that there are.
func (d *delayed) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Close()
	}
	clear(d.conns)
}

// piece is what was read at some time.
type piece struct {
	at   time.Time
	data []byte
}

// pass passes on what comes, each piece when its time has come.
func (d *delayed) pass(from, to net.Conn) {
	defer d.wg.Done()
	pieces := make(chan piece, 1024)
	d.wg.Add(1)
	go func() {
		defer d.wg.Done()
		defer to.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.at.Add(time.Duration(d.delay.Load()))))
			if _, err := to.Write(p.data); err != nil {
				return
			}
		}
	}()
	defer close(pieces)
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case pieces <- piece{time.Now(), buf[:n]}:
		default: // nobody takes them any more
			return
		}
	}
}
