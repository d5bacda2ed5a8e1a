package main_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestRun runs the real program against the real kernel, each case in a network of its own.
func TestRun(t *testing.T) {
	testutil.RequireRoot(t)
	binary := buildWeir(t)
	for name, test := range map[string]func(*testing.T, *site){
		"kill":            runKill,
		"term":            runTerm,
		"detach-on-exit":  runDetachOnExit,
		"second":          runSecond,
		"reload":          runReload,
		"reload-broken":   runReloadBroken,
		"interface":       runInterface,
		"missing":         runMissing,
		"prune":           runPrune,
		"take-over":       runTakeOver,
		"http":            runHTTPAnswers,
		"address-in-use":  runAddressInUse,
		"table-size":      runTableSize,
		"privileges":      runPrivileges,
		"unreadable":      runUnreadable,
		"mount-namespace": runMountNamespace,
		"apply":           runApply,
		"apply-invalid":   runApplyInvalid,
		"bans":            runBans,
		"socket-in-use":   runSocketInUse,
		"socket-left":     runSocketLeft,
		"token":           runToken,
		"watch":           runWatch,
		"no-watch":        runNoWatch,
		"reload-whole":    runReloadWhole,
		"hooks":           runHooks,
		"both":            runBoth,
		"beside":          runBeside,
		"top":             runTopAnswers,
		"top-traffic":     runTopOfTraffic,
	} {
		t.Run(name, func(t *testing.T) { test(t, newSite(t, binary)) })
	}
}

// runKill: SIGKILL changes nothing for packets, and the next daemon takes over every bucket.
func runKill(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	s.send(7, 7)
	p.kill()
	if got := s.tokens(); got != 0 {
		t.Errorf("%d tokens after the kill, want 0", got)
	}
	s.send(2, 9)
	before := s.attachment()

	s.run()
	s.waitReady(200)
	after := s.attachment()
	if after.Index != before.Index || after.Program.ID == before.Program.ID {
		t.Errorf("after the restart program %d on interface %d, before %d on %d: want a new program in the same place",
			after.Program.ID, after.Index, before.Program.ID, before.Index)
	}
	verdicts := s.send(3, 12)
	if pass, drop := verdicts[policy.VerdictPass].Packets, verdicts[policy.VerdictDrop].Packets; pass != 5 || drop != 7 {
		t.Errorf("passed %d, dropped %d of 12, want 5 and 7: the bucket stays drained", pass, drop)
	}
}

func runTerm(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	p.signal(unix.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want %d", code, 0)
	}
	s.attachment()
}

func runDetachOnExit(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run("--detach-on-exit")
	s.waitReady(200)
	p.signal(unix.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want %d", code, 0)
	}
	if _, err := os.Stat(s.stateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state directory: %v, want it gone", err)
	}
}

func runSecond(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	second := s.run()
	if code := second.end(); code != 1 {
		t.Errorf("exit code %d, want %d", code, 1)
	}
	if want := fmt.Sprintf("by process %d (weir)", p.Process.Pid); !strings.Contains(second.log.String(), want) {
		t.Errorf("the second instance says %q, want %q in it", second.log, want)
	}
}

// runReload: a policy that keeps its name keeps its counters and its buckets.
func runReload(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	s.send(4, 4)
	s.write(1000, "eth0")
	p.signal(unix.SIGHUP)
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Policies[0].Limit; got != 1000 {
		t.Errorf("limit %d after the reload, want 1000", got)
	}
	verdicts := s.send(10, 14)
	if got := verdicts[policy.VerdictPass].Packets; got != 14 {
		t.Errorf("passed %d, want 14", got)
	}
	_, metrics, err := s.get("/metrics")
	const want = `rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="pass"} 14`
	if err != nil || !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s: %v\n%s", want, err, metrics)
	}
}

func runReloadBroken(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	before := s.attachment().Program
	s.writeText("interfaces: [{nam: eth0}]\npolicies: [{name: x, limit: 0}]\n")
	p.signal(unix.SIGHUP)
	p.waitLog("not reloaded", 3) // a line for each fault
	if body := s.waitReady(200); !strings.Contains(body, `"ready":true`) {
		t.Errorf("readyz: %s", body)
	}
	if after := s.attachment().Program; after.ID != before.ID {
		t.Errorf("program %d, want %d still", after.ID, before.ID)
	}
}

// runInterface: an interface that goes and comes back is attached to again, with its counters, by a
// daemon that has given up its privileges.
func runInterface(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.run()
	s.waitReady(200)
	s.send(4, 4)
	before := s.attachment()
	s.link(func() error { return deleteLink("eth0") })
	if body := s.waitReady(503); !strings.Contains(body, `"interface":"eth0"`) {
		t.Errorf("readyz: %s, want eth0 in it", body)
	}
	s.link(addLink)
	s.waitReady(200)
	after := s.attachment()
	if after.Index == before.Index {
		t.Errorf("attached to interface %d, as before: want the new one", after.Index)
	}
	if got := after.Counters.Policies["per-client"][policy.VerdictPass].Packets; got != 4 {
		t.Errorf("%d packets counted, want the 4 from before", got)
	}
}

// runMissing: an interface that is not there yet is no failure.
func runMissing(t *testing.T, s *site) {
	s.write(5, "eth0", "eth1")
	s.run()
	if body := s.waitReady(503); !strings.Contains(body, "eth1") || strings.Contains(body, "eth0") {
		t.Errorf("readyz: %s, want eth1 in it alone", body)
	}
	s.attachment()
	s.link(func() error { return addVeth("eth1", "peer1") })
	s.waitReady(200)
	if got := len(s.attachments()); got != 2 {
		t.Errorf("%d attachments, want 2", got)
	}
}

// runPrune: what the file does not list any more is detached.
func runPrune(t *testing.T, s *site) {
	s.link(func() error { return addVeth("eth1", "peer1") })
	s.write(5, "eth0", "eth1")
	p := s.run()
	s.waitReady(200)
	s.write(5, "eth1")
	p.signal(unix.SIGHUP)
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Interface; got != "eth1" {
		t.Errorf("attached to %s, want eth1", got)
	}
}

// runTakeOver: a file without interfaces takes over those that are attached to, if there are any.
func runTakeOver(t *testing.T, s *site) {
	s.write(5)
	p := s.run()
	if code := p.end(); code != 1 || !strings.Contains(p.log.String(), "no interfaces: in "+s.file) {
		t.Errorf("exit code %d and %q, want %d and the mend", code, p.log, 1)
	}
	s.write(5, "eth0")
	p = s.run()
	s.waitReady(200)
	p.kill()
	s.write(9)
	s.run()
	s.waitReady(200)
	if got := s.attachment().Policies[0].Limit; got != 9 {
		t.Errorf("limit %d, want 9", got)
	}
}

func runHTTPAnswers(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.run()
	s.waitReady(200)
	s.send(7, 7)
	if status, body, err := s.get("/healthz"); err != nil || status != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q, %v", status, body, err)
	}
	status, body, err := s.get("/metrics")
	if err != nil || status != 200 {
		t.Fatalf("metrics: %d, %v", status, err)
	}
	for _, want := range []string{
		`rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="pass"} 5`,
		`rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="drop"} 2`,
		`rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="shadow-drop"} 0`,
		`rate_limiter_kernel_bytes_total{interface="eth0",policy="per-client",verdict="drop"} `,
		`rate_limiter_kernel_unparsed_total{interface="eth0",reason="truncated"} 0`,
		`rate_limiter_kernel_contended_total{interface="eth0"} 0`,
		`rate_limiter_kernel_listed_packets_total{interface="eth0",list="ban"} 0`, `rate_limiter_kernel_bans{family="ipv4"} 0`,
		`rate_limiter_kernel_stranger_drops_total{interface="eth0",policy="per-client"} 0`, "rate_limiter_kernel_events_lost_total 0",
		"rate_limiter_table_entries 1", "rate_limiter_table_owing_entries 1", "rate_limiter_table_capacity 1024",
		"rate_limiter_table_pressure_total 0", "rate_limiter_active_policies{", "rate_limiter_build_info{",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	if strings.Contains(body, s.B.IPv4.String()) {
		t.Error("metrics have a client's address in them")
	}
}

func runAddressInUse(t *testing.T, s *site) {
	var other net.Listener
	if err := s.A.Do(func() (err error) { other, err = net.Listen("tcp", runHTTP); return err }); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.write(5, "eth0")
	p := s.run()
	if code := p.end(); code != 1 || !strings.Contains(p.log.String(), "ss -ltnp") {
		t.Errorf("exit code %d and %q, want %d and the mend", code, p.log, 1)
	}
	if all := s.attachments(); all != nil {
		t.Errorf("attached: %+v, want nothing", all)
	}
}

// runTableSize: a table can't change its size, neither at a start nor at a reload.
func runTableSize(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.writeText(strings.Replace(string(text), "1024", "2048", 1))
	p.signal(unix.SIGHUP)
	p.waitLog("not reloaded", 1)
	p.kill()
	p = s.run()
	if code := p.end(); code != 1 || !strings.Contains(p.log.String(), "weir detach --all") {
		t.Errorf("exit code %d and %q, want %d and the mend", code, p.log, 1)
	}
	s.attachment()
}

// link changes an interface of the protected host.
func (s *site) link(change func() error) {
	s.t.Helper()
	if err := s.A.Do(change); err != nil {
		s.t.Fatal(err)
	}
}

func deleteLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

func addLink() error { return addVeth("eth0", "peer0") }

func addVeth(name, peer string) error {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: peer})
}

// addTunnel makes an interface whose packets have no Ethernet header.
func addTunnel() error {
	a := netlink.NewLinkAttrs()
	a.Name = "tun9"
	return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: a, Mode: netlink.TUNTAP_MODE_TUN})
}
