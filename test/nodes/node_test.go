package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/loader"
)

// node is a host with a daemon of its own.
type node struct {
	*lab.Host
	t      *testing.T
	name   string
	binary string
	file   string // configuration
	state  string
	runDir string
	http   *http.Client // over the daemon's socket

	cmd  *exec.Cmd
	done chan struct{}
	log  *testutil.Log
}

func newNode(t *testing.T, binary string, host *lab.Host, configuration string) *node {
	t.Helper()
	n := &node{
		Host: host, t: t, name: host.Name, binary: binary, runDir: t.TempDir(), file: filepath.Join(t.TempDir(), "weir.yaml"), log: &testutil.Log{},
		state: fmt.Sprintf("%s/weir-nodes-%d-%d", filepath.Dir(loader.DefaultStateDir), os.Getpid(), nodesMade.Add(1)),
	}
	n.configure(configuration)
	n.http = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(n.runDir, "weir.sock"))
		},
	}}
	t.Cleanup(func() {
		n.kill()
		n.http.CloseIdleConnections()
		if t.Failed() {
			t.Logf("log of %s:\n%s", n.name, n.log)
		}
		if err := os.RemoveAll(n.state); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) configure(text string) {
	n.t.Helper()
	if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// start runs the daemon, in the host's network, and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command(n.binary, "run", "-c", n.file, "--bpffs", n.state, "--run-dir", n.runDir)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := n.Do(n.cmd.Start); err != nil {
		n.t.Fatal(err)
	}
	cmd, done := n.cmd, make(chan struct{})
	n.done = done
	go func() { defer close(done); _ = cmd.Wait() }()
	eventually(n.t, n.name+" to answer", func() error {
		select {
		case <-done:
			n.t.Fatalf("%s has ended:\n%s", n.name, n.log)
		default:
		}
		_, err := n.get("/healthz")
		return err
	})
}

func (n *node) signal(s os.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// kill ends the daemon without a warning; nothing if there is none.
func (n *node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		<-n.done
	}
}

// stop ends the daemon as systemd would.
func (n *node) stop() {
	n.t.Helper()
	n.signal(unix.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(patience):
		n.t.Fatalf("%s does not end:\n%s", n.name, n.log)
	}
}

func (n *node) get(path string) ([]byte, error) {
	resp, err := n.http.Get("http://" + n.name + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// answer is what /v1/check says.
type answer struct {
	Allowed   bool   `json:"allowed"`
	Policy    string `json:"policy"`
	Remaining uint64 `json:"remaining"`
}

// check asks for one user at an endpoint. An error is a decision that failed: none may.
func (n *node) check(endpoint, user string) (bool, error) {
	body := fmt.Sprintf(`{"context":{"endpoint":%q,"user_id":%q},"hits":1}`, endpoint, user)
	resp, err := n.http.Post("http://"+n.name+"/v1/check", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return false, err
	case resp.StatusCode == http.StatusOK:
		var a answer
		if err := json.Unmarshal(text, &a); err != nil || !a.Allowed {
			return false, fmt.Errorf("%s: %w", text, err)
		}
		return true, nil
	case resp.StatusCode == http.StatusTooManyRequests:
		return false, nil
	}
	return false, fmt.Errorf("%s: %s", resp.Status, text)
}

// health is what /v1/health says.
func (n *node) health() (h limiter.Health, err error) {
	body, err := n.get("/v1/health")
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	return h, err
}

// metric adds up the series of a metric that have all of the labels, "name=value".
func (n *node) metric(name string, labels ...string) float64 {
	n.t.Helper()
	body, err := n.get("/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	var sum float64
	if f := families[name]; f != nil {
	series:
		for _, m := range f.Metric {
			var has []string
			for _, l := range m.Label {
				has = append(has, l.GetName()+"="+l.GetValue())
			}
			for _, want := range labels {
				if !strings.Contains(" "+strings.Join(has, " ")+" ", " "+want+" ") {
					continue series
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}
