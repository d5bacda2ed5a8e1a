package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
)

// runWatch: a file that changes is loaded, one that is touched is not, and one that is bad is told of.
func runWatch(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	s.send(4, 4)
	s.write(1000, "eth0")
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Policies[0].Limit; got != 1000 {
		t.Errorf("limit %d after the change, want 1000", got)
	}
	s.send(10, 14)
	before := s.attachment().Program

	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(s.file, later, later); err != nil {
		t.Fatal(err)
	}
	s.write(1000, "eth0") // the same once more
	s.writeText("policies: [{name: x, limit: 0}]\n")
	p.waitLog("not reloaded", 2) // a line for each fault
	if n := strings.Count(p.log.String(), "the file has changed"); n != 2 {
		t.Errorf("the file was taken for changed %d times, want 2", n)
	}
	body := s.waitReady(200)
	if !strings.Contains(body, `"ready":true`) || !strings.Contains(body, `"failed_reload":{"at":"`) || !strings.Contains(body, "policies[0].limit") {
		t.Errorf("readyz: %s, want it ready, and the faults", body)
	}
	if after := s.attachment().Program; after.ID != before.ID {
		t.Errorf("program %d after a bad file, want %d still", after.ID, before.ID)
	}
	_, metrics, err := s.get("/metrics")
	for _, want := range []string{
		`rate_limiter_config_reloads_total{result="success"} 1`, `rate_limiter_config_reloads_total{result="failure"} 1`,
		"rate_limiter_config_last_reload_successful 0",
	} {
		if err != nil || !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("metrics lack %s: %v", want, err)
		}
	}
	if out := s.ok("status"); !strings.Contains(out, "file not loaded") {
		t.Errorf("status:\n%s", out)
	}
	s.write(9, "eth0")
	p.waitLog("msg=reloaded", 2)
	if body := s.waitReady(200); strings.Contains(body, "failed_reload") {
		t.Errorf("readyz after the mend: %s", body)
	}
}

// runNoWatch: with --watch=false a change waits for SIGHUP.
func runNoWatch(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run("--watch=false", "--debug")
	s.waitReady(200)
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.Contains(target, "inotify") {
			t.Errorf("%s is %s: the file is watched all the same", link, target)
		}
	}
}

// runReloadWhole: a reload that one interface refuses changes none of them.
func runReloadWhole(t *testing.T, s *site) {
	s.link(func() error { return addVeth("eth1", "peer1") })
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	before := s.attachment()
	// A name that is one of the kernel's, and not of an Ethernet interface.
	s.link(addTunnel)
	s.write(9, "eth0", "eth1", "tun9")
	p.waitLog("not reloaded", 1)
	after := s.attachment()
	if after.Program.ID != before.Program.ID || after.Policies[0].Limit != 5 {
		t.Errorf("program %d with limit %d, want %d and 5 still", after.Program.ID, after.Policies[0].Limit, before.Program.ID)
	}
	s.waitReady(200)
}

// runHooks: several hooks of an interface are kept, and come back with it.
func runHooks(t *testing.T, s *site) {
	const text = `interfaces: [{name: eth0}, {name: eth0, hook: tc-egress}]
table: {entries: 1024}
server: {http: "` + runHTTP + `"}
policies: [{name: per-client, scope: per_ip, limit: 5, window: 1h}]
`
	s.writeText(text)
	p := s.run()
	s.waitReady(200)
	wantHooks(t, s, loader.HookTCEgress, loader.HookXDP)
	if _, metrics, err := s.get("/metrics"); err != nil || !strings.Contains(metrics, "\nrate_limiter_active_policies{instance=") ||
		strings.Count(metrics, `rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="pass"}`) != 1 {
		t.Errorf("metrics of two hooks: %v\n%s", err, metrics)
	}
	s.link(func() error { return deleteLink("eth0") })
	if body := s.waitReady(503); strings.Count(body, `"interface":"eth0"`) != 2 || !strings.Contains(body, `"hook":"tc-egress"`) {
		t.Errorf("readyz: %s, want both hooks", body)
	}
	s.link(addLink)
	s.waitReady(200)
	wantHooks(t, s, loader.HookTCEgress, loader.HookXDP)
	s.writeText(strings.Replace(text, "{name: eth0}, ", "{name: eth0, hook: tc-ingress}, ", 1))
	p.waitLog("msg=reloaded", 1)
	wantHooks(t, s, loader.HookTCEgress, loader.HookTCIngress)
	s.writeText(strings.Replace(text, "policies:", "policies: [{name: up, scope: per_ip, limit: 5, window: 1h, match: {interfaces: [eth7]}}]\n#", 1))
	p.waitLog("a policy meets no packet", 1)
}

func wantHooks(t *testing.T, s *site, want ...loader.Hook) {
	t.Helper()
	var got []loader.Hook
	for _, a := range s.attachments() {
		if a.State == loader.StateAttached && a.Interface == "eth0" {
			got = append(got, a.Hook)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("attached at %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("attached at %v, want %v", got, want)
		}
	}
}
