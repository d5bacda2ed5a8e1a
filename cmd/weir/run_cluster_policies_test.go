package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/server"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// fileOf is a configuration for requests alone with one policy of that limit, which needs no store.
func fileOf(limit int) string {
	return fmt.Sprintf(`table: {l7_entries: 1024}
server: {http: ""}
policies:
  - {name: per-user, scope: per_user, limit: %d, window: 1m, layer: l7, consistency: local}
`, limit)
}

// startSocketRedis starts a Redis of the test's own, and gives its socket and what kills it.
func startSocketRedis(t *testing.T) (string, func()) {
	t.Helper()
	s := redistest.Start(t, redistest.Options{})
	return s.Socket, func() { redistest.Must(t, s.Kill()) }
}

func redisClient(t *testing.T, socket string) *redis.Client {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func wait(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond) // for others
	}
}

// member is a daemon of a cluster, in this process.
type member struct {
	t            *testing.T
	d            *daemon
	log          testutil.Log
	file, runDir string
	redis        string // of its file
	stop         func()
}

// newMember starts a daemon; dir is where it keeps what it had.
func newMember(t *testing.T, name, socket, dir, text string) *member {
	t.Helper()
	m := &member{t: t, file: filepath.Join(t.TempDir(), "weir.yaml"), runDir: t.TempDir()}
	if socket != "" {
		m.redis = fmt.Sprintf("redis: {url: \"unix://%s\", compression: true}\nfallback: {policy_cache: \"%s/kept.json\"}\n", socket, dir)
	}
	m.write(text)
	e := &env{out: &m.log, err: &m.log, runDir: m.runDir, stateDir: filepath.Join(m.runDir, "none")}
	log := slog.New(slog.NewTextHandler(&m.log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	d, err := openDaemon(ctx, e, runOptions{file: m.file}, log)
	if err != nil {
		t.Fatal(err)
	}
	m.d = d
	if socket != "" {
		d.openClusterPolicies(redisClient(t, socket), name)
		d.restoreCluster()
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, component := range d.components() {
		g.Go(func() error { return component(ctx) })
	}
	m.stop = func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		_ = d.close() // once more at the end of the test
	}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, m.log.String())
		}
	})
	return m
}

func (m *member) write(text string) {
	m.t.Helper()
	if err := os.WriteFile(m.file, []byte(m.redis+text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// weir runs a command that asks this daemon.
func (m *member) weir(args ...string) result {
	m.t.Helper()
	var out, err bytes.Buffer
	args = append(args, "--run-dir", m.runDir, "--bpffs", filepath.Join(m.runDir, "none"))
	code := run(m.t.Context(), &env{out: &out, err: &err}, args)
	return result{code, out.String(), err.String()}
}

func (m *member) ok(args ...string) string {
	m.t.Helper()
	r := m.weir(args...)
	if r.code != exitOK {
		m.t.Fatalf("weir %v: %+v", args, r)
	}
	return r.out
}

// fails holds that a command fails, and says so.
func (m *member) fails(code int, want string, args ...string) {
	m.t.Helper()
	if r := m.weir(args...); r.code != code || !strings.Contains(r.err, want) {
		m.t.Errorf("weir %v: %+v, want code %d and %q", args, r, code, want)
	}
}

// limit is that of the policy in force.
func (m *member) limit() uint64 {
	m.t.Helper()
	doc, err := m.d.Document(m.t.Context())
	if err != nil || len(doc.Policies) != 1 {
		return 0
	}
	return doc.Policies[0].Limit
}

func (m *member) has(limit uint64) {
	m.t.Helper()
	wait(m.t, fmt.Sprintf("limit %d", limit), func() error {
		if got := m.limit(); got != limit {
			return fmt.Errorf("limit %d; log:\n%s", got, m.log.String())
		}
		return nil
	})
}

func (m *member) reload() {
	m.t.Helper()
	if err := m.d.do(m.t.Context(), m.d.reload); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) version() uint64 {
	m.t.Helper()
	var set server.ClusterSet
	if err := json.Unmarshal([]byte(m.ok("policy", "list", "--cluster", "-o", "json")), &set); err != nil {
		m.t.Fatal(err)
	}
	return set.Version
}

// TestClusterPolicies walks through the commands with two nodes, one of which has another file.
func TestClusterPolicies(t *testing.T) {
	t.Parallel()
	socket, _ := startSocketRedis(t)
	a := newMember(t, "node-a", socket, t.TempDir(), fileOf(1))
	b := newMember(t, "node-b", socket, t.TempDir(), fileOf(2))
	if out := a.ok("policy", "list", "--cluster"); !strings.Contains(out, "no policies of its own") {
		t.Errorf("list of none:\n%s", out)
	}
	a.fails(exitFailure, "the cluster has no policies of its own", "policy", "delete", "--cluster", "per-user")

	three, four := writeConfig(t, fileOf(3)), writeConfig(t, fileOf(4))
	if out := a.ok("policy", "apply", "--cluster", "-f", three, "--dry-run"); !strings.Contains(out, "limit: 1 -> 3") || !strings.Contains(out, "dry run") || a.version() != 0 {
		t.Errorf("dry run:\n%s", out)
	}
	if out := a.ok("policy", "apply", "--cluster", "-f", three); !strings.Contains(out, "in force on every node") || !strings.Contains(out, "version 1 of the cluster") || strings.Contains(out, "not in force") {
		t.Errorf("apply:\n%s", out)
	}
	if got := a.limit(); got != 3 {
		t.Errorf("limit %d after the answer, want 3", got)
	}
	b.has(3)
	if out := b.ok("policy", "apply", "--cluster", "-f", three); !strings.Contains(out, "nothing changes") || b.version() != 1 {
		t.Errorf("apply again:\n%s", out)
	}
	b.ok("policy", "apply", "--cluster", "-f", four, "--expect", "1")
	a.has(4)
	a.fails(exitFailure, "stored version 2", "policy", "apply", "--cluster", "-f", three, "--expect", "1")
	a.fails(exitFailure, "--expect 2", "policy", "delete", "--cluster", "per-user", "--expect", "0")
	if out := a.ok("policy", "list", "--cluster"); !strings.Contains(out, "version 2 of the cluster's policies, stored by ") || !strings.Contains(out, " at node-b at ") ||
		!strings.Contains(out, "per-user") || !strings.Contains(out, "sha256 ") || !strings.Contains(out, "as zstd") {
		t.Errorf("list:\n%s", out)
	}
	wait(t, "both nodes in the list", func() error {
		out := a.ok("policy", "list", "--cluster")
		if !strings.Contains(out, "node-a        2") || !strings.Contains(out, "node-b        2") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out := a.ok("policy", "get", "--cluster", "per-user"); !strings.Contains(out, "4/1m") && !strings.Contains(out, "4/m") {
		t.Errorf("get:\n%s", out)
	}
	a.fails(exitFailure, `no policy "x" is in version 2 of the cluster (there are: per-user)`, "policy", "get", "--cluster", "x")
	if out := b.ok("status"); !strings.Contains(out, "version 2 of the cluster's") {
		t.Errorf("status:\n%s", out)
	}

	// What get prints apply takes, and nothing changes.
	saved := writeConfig(t, a.ok("policy", "get", "--cluster"))
	if out := a.ok("policy", "apply", "--cluster", "-f", saved); !strings.Contains(out, "nothing changes") {
		t.Errorf("apply of what get printed:\n%s", out)
	}
	a.fails(exitFailure, `no policy "x" is in force (there are: per-user)`, "policy", "delete", "--cluster", "x")
	a.ok("policy", "delete", "--cluster", "per-user")
	b.has(0)
	a.ok("policy", "apply", "--cluster", "--clear")
	a.has(1)
	b.has(2)
	if out := a.ok("policy", "list", "--cluster"); !strings.Contains(out, "there are none") {
		t.Errorf("list of a cleared set:\n%s", out)
	}
	if out := a.ok("policy", "apply", "--cluster", "--clear"); !strings.Contains(out, "nothing changes") || a.version() != 4 {
		t.Errorf("clear again:\n%s", out)
	}
}

// TestClusterPoliciesAndFiles: a reload keeps the cluster's set, takes the rest of the file, and its policies when the set is gone.
func TestClusterPoliciesAndFiles(t *testing.T) {
	t.Parallel()
	socket, _ := startSocketRedis(t)
	a := newMember(t, "node-a", socket, t.TempDir(), fileOf(1))
	a.ok("policy", "apply", "--cluster", "-f", writeConfig(t, fileOf(3)))
	a.write(fileOf(7))
	a.reload()
	if got := a.limit(); got != 3 || !strings.Contains(a.log.String(), "take the place of the file's") {
		t.Errorf("limit %d after a reload, want the cluster's; log:\n%s", got, a.log.String())
	}
	// A change of this node alone lasts until then.
	if out := a.ok("policy", "apply", "-f", writeConfig(t, fileOf(5))); !strings.Contains(out, "on this node alone") || a.limit() != 5 {
		t.Errorf("a change of this node alone:\n%s", out)
	}
	if out := a.ok("status"); !strings.Contains(out, "on this node alone") {
		t.Errorf("status:\n%s", out)
	}
	a.reload()
	if got := a.limit(); got != 3 {
		t.Errorf("limit %d after a reload, want the cluster's", got)
	}
	a.write("policies: [{name: x, limit: 0}]")
	a.reload()
	if got := a.limit(); got != 3 || a.d.Config().Failed == nil {
		t.Errorf("limit %d after a bad file", got)
	}
	a.ok("policy", "apply", "--cluster", "--clear")
	if got := a.limit(); got != 7 {
		t.Errorf("limit %d after clear, want the file's as it was loaded last", got)
	}
}

// TestClusterPoliciesRefused: a node that can't take a set says so, and keeps what it has; who is asked for it refuses it.
func TestClusterPoliciesRefused(t *testing.T) {
	t.Parallel()
	socket, _ := startSocketRedis(t)
	a := newMember(t, "node-a", socket, t.TempDir(), fileOf(1))
	kernel := "policies:\n  - {name: per-ip, scope: per_ip, limit: 3, window: 1m, layer: kernel}\n"
	a.fails(exitFailure, "this daemon limits requests alone", "policy", "apply", "--cluster", "-f", writeConfig(t, kernel))
	a.fails(exitFailure, "policies[0]", "policy", "apply", "--cluster", "-f", writeConfig(t, "policies: [{name: A B, scope: per_ip, limit: 1, window: 1s}]"))
	if got := a.version(); got != 0 {
		t.Errorf("version %d", got)
	}
	// By a node that can.
	c, err := config.Parse("kernel.yaml", []byte(kernel))
	if err != nil {
		t.Fatal(err)
	}
	putSet(t, a, c)
	wait(t, "a refusal", func() error {
		if w := strings.Join(a.d.Config().Warnings, "\n"); !strings.Contains(w, "version 1 of the cluster's policies is refused by this node") {
			return fmt.Errorf("warnings %q", w)
		}
		return nil
	})
	if got := a.limit(); got != 1 {
		t.Errorf("limit %d", got)
	}
	if out := a.ok("status"); !strings.Contains(out, "is refused by this node") {
		t.Errorf("status:\n%s", out)
	}
	wait(t, "the list", func() error {
		if out := a.ok("policy", "list", "--cluster"); !strings.Contains(out, "refuses version 1: this daemon limits requests alone") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// TestClusterPoliciesWithoutRedis: a start without Redis has the last set, and a reload of the file does not undo it.
func TestClusterPoliciesWithoutRedis(t *testing.T) {
	t.Parallel()
	socket, kill := startSocketRedis(t)
	dir := t.TempDir()
	a := newMember(t, "node-a", socket, dir, fileOf(1))
	a.ok("policy", "apply", "--cluster", "-f", writeConfig(t, fileOf(3)))
	a.stop()
	kill()
	a = newMember(t, "node-a", socket, dir, fileOf(1))
	if got := a.limit(); got != 3 {
		t.Errorf("limit %d at a start without Redis, want 3", got)
	}
	a.reload()
	if got := a.limit(); got != 3 {
		t.Errorf("limit %d after a reload, want 3", got)
	}
	a.fails(exitFailure, "read the cluster's policies: ", "policy", "list", "--cluster")
	a.fails(exitFailure, "read the cluster's policies: ", "policy", "apply", "--cluster", "-f", writeConfig(t, fileOf(4)))
	wait(t, "a warning", func() error {
		if w := strings.Join(a.d.Config().Warnings, "\n"); !strings.Contains(w, "see the log") || strings.Contains(w, socket) {
			return fmt.Errorf("warnings %q", w)
		}
		return nil
	})
}

// TestClusterPoliciesForce: what can't be read is in the way of nobody who knows it.
func TestClusterPoliciesForce(t *testing.T) {
	t.Parallel()
	socket, _ := startSocketRedis(t)
	a := newMember(t, "node-a", socket, t.TempDir(), fileOf(1))
	if err := redisClient(t, socket).Set(t.Context(), "weir:policies", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	three := writeConfig(t, fileOf(3))
	a.fails(exitFailure, "it is a string", "policy", "get", "--cluster")
	a.fails(exitFailure, "it is a string", "policy", "apply", "--cluster", "-f", three)
	a.ok("policy", "apply", "--cluster", "-f", three, "--force")
	if got := a.limit(); got != 3 {
		t.Errorf("limit %d", got)
	}
}

func TestClusterPoliciesUsage(t *testing.T) {
	t.Parallel()
	a := newMember(t, "alone", "", "", fileOf(1))
	file := writeConfig(t, fileOf(3))
	a.fails(exitFailure, "no cluster to have policies", "policy", "apply", "--cluster", "-f", file)
	a.fails(exitFailure, "no cluster to have policies", "policy", "list", "--cluster")
	for want, args := range map[string][]string{
		"add --cluster":           {"apply", "-f", file, "--expect", "3"},
		"are for the policies":    {"apply", "-f", file, "--force"},
		"--clear and -f":          {"apply", "--cluster", "-f", file, "--clear"},
		"--force and --expect":    {"apply", "--cluster", "-f", file, "--force", "--expect", "3"},
		"want a file":             {"apply", "--cluster"},
		"want a version":          {"apply", "--cluster", "-f", file, "--expect", "-7"},
		"want one policy":         {"get"},
		"--cluster and -f":        {"list", "--cluster", "-f", file},
		"invalid argument \"x\"":  {"apply", "--cluster", "-f", file, "--expect", "x"},
		"want one policy (see: w": {"delete", "--cluster"},
	} {
		a.fails(exitUsage, want, append([]string{"policy"}, args...)...)
	}
	if r := weir(t, "policy", "list", "--cluster", "--run-dir", t.TempDir()); r.code != exitFailure || !strings.Contains(r.err, "no weir run answers") {
		t.Errorf("without a daemon: %+v", r)
	}
}

// putSet stores a set past the daemon.
func putSet(t *testing.T, m *member, c *config.Config) {
	t.Helper()
	doc := c.Document()
	if _, err := m.d.cluster.store.Put(t.Context(), ratesync.PolicyPut{Document: &doc, By: "another node"}); err != nil {
		t.Fatal(err)
	}
}

// TestClusterPoliciesAreFiles: what get prints of any file is one that says the same.
func TestClusterPoliciesAreFiles(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{corpus + "good/*.yaml", "../../examples/*.yaml"} {
		some, err := filepath.Glob(pattern)
		if err != nil || len(some) == 0 {
			t.Fatalf("%s: %v, %v", pattern, some, err)
		}
		files = append(files, some...)
	}
	for _, file := range files {
		doc, err := config.LoadDocument(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var out bytes.Buffer
		now := time.Now()
		writeSet(&page{w: &out}, &server.ClusterSet{Version: 3, At: &now, Document: doc})
		again, err := config.LoadDocument(writeConfig(t, out.String()))
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out.String())
			continue
		}
		if applied, err := compare(doc, again); err != nil || !unchanged(applied) {
			t.Errorf("%s: %+v, %v", file, applied, err)
		}
	}
}

func unchanged(a server.Applied) bool {
	for _, p := range a.Policies {
		if p.Outcome != server.OutcomeUnchanged {
			return false
		}
	}
	return len(a.Allow.Added)+len(a.Allow.Removed)+len(a.Deny.Added)+len(a.Deny.Removed) == 0
}
