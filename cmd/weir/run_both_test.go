package main_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// bothFile is a file for the kernel and for layer 7.
func bothFile(packets, requests int, interfaces string) string {
	return fmt.Sprintf(`interfaces: [%s]
table: {entries: 1024, l7_entries: 1024}
server: {http: "%s"}
policies:
  - {name: per-client, scope: per_ip, limit: %d, window: 1h}
  - {name: users, scope: per_user, limit: %d, window: 1h}
`, interfaces, runHTTP, packets, requests)
}

// asUser counts how many of so many requests of a user pass.
func (s *site) asUser(times int, user string) (passed int) {
	s.t.Helper()
	for range times {
		status, body, err := s.request(s.dialTCP, "POST", "http://"+runHTTP+"/v1/check", `{"context":{"user_id":"`+user+`"}}`, "")
		switch {
		case err != nil || status != 200 && status != 429:
			s.t.Fatalf("check: %d %s %v", status, body, err)
		case status == 200:
			passed++
		}
	}
	return passed
}

// runBoth: the kernel and layer 7 change together or not at all.
func runBoth(t *testing.T, s *site) {
	const eth0 = "{name: eth0}"
	s.writeText(bothFile(5, 6, eth0))
	p := s.run("--watch=false")
	s.waitReady(200)
	s.send(4, 4)
	if got := s.asUser(3, "alice"); got != 3 {
		t.Errorf("%d of alice's pass, want 3", got)
	}
	before := s.attachment()

	// The kernel refuses, by an interface that is no Ethernet.
	s.link(addTunnel)
	s.writeText(bothFile(50, 60, eth0+", {name: tun9}"))
	p.signal(unix.SIGHUP)
	p.waitLog("not reloaded", 1)
	// Layer 7 refuses, by a file that is not there.
	s.writeText(strings.Replace(bothFile(50, 60, eth0), "server: {", "server: {jwt: {jwks_file: /nowhere/keys.json}, ", 1))
	p.signal(unix.SIGHUP)
	p.waitLog("not reloaded", 2)
	if after := s.attachment(); after.Program.ID != before.Program.ID || after.Policies[0].Limit != 5 {
		t.Errorf("program %d with limit %d, want %d and 5 still", after.Program.ID, after.Policies[0].Limit, before.Program.ID)
	}
	if got := s.asUser(4, "alice"); got != 3 {
		t.Errorf("%d more of alice's pass, want 3", got)
	}

	s.writeText(bothFile(50, 60, eth0))
	p.signal(unix.SIGHUP)
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Policies[0].Limit; got != 50 {
		t.Errorf("limit of packets %d, want 50", got)
	}
	if got := s.asUser(61, "bob"); got != 60 {
		t.Errorf("%d of bob's pass, want 60", got)
	}
	s.wantBothShown()
}

// wantBothShown holds what the commands show of both layers at once.
func (s *site) wantBothShown() {
	s.t.Helper()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"policy", "list"}, []string{"per-client  per_ip    50/h     50  kernel", "users       per_user  60/h     60  l7"}},
		{[]string{"policy", "get", "users"}, []string{"per_user, layer l7", "drop                2"}},
		{[]string{"policy", "get", "per-client"}, []string{"per_ip, layer kernel", "in force at     eth0 xdp"}},
		{[]string{"bucket", "get", "per-client", s.B.IPv4.String()}, []string{"per-client: 50/h, burst 50, on eth0"}},
		{[]string{"bucket", "get", "users", "bob"}, []string{"0 of 60"}},
		{[]string{"status"}, []string{"for all interfaces", "of layer 7", "requests  68"}},
		{[]string{"policy", "explain", "--src", "192.0.2.9", "--proto", "icmp", "--iface", "eth0"}, []string{"layer l7 judges requests, not packets"}},
		{[]string{"policy", "explain", "--user", "bob"}, []string{"layer kernel judges packets, not requests"}},
	} {
		out := s.ok(c.args...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				s.t.Errorf("weir %v lacks %q:\n%s", c.args, want, out)
			}
		}
	}
	_, metrics, err := s.get("/metrics")
	if n := strings.Count(metrics, "\nrate_limiter_active_policies{"); err != nil || n != 1 || !strings.Contains(metrics, "\"} 2\n") {
		s.t.Errorf("active policies are there %d times, want once, and two of them: %v", n, err)
	}
}

// runBeside: a daemon that limits requests alone leaves the kernel to whoever is there.
func runBeside(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.ok("attach", "eth0", "-c", s.file)
	before := s.attachment()
	s.writeText(`server: {http: "` + runHTTP + `"}
policies: [{name: users, scope: per_user, limit: 6, window: 1h}, {name: per-client, scope: per_ip, layer: l7, limit: 7, window: 1h}]
`)
	p := s.run()
	s.waitReady(200)
	if got := s.asUser(8, "alice"); got != 6 {
		t.Errorf("%d of alice's pass, want 6", got)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ban", "203.0.113.7", "--for", "1h"}, "is banned"}, // which nobody's lock is in the way of
		{[]string{"bans"}, "203.0.113.7/32"},
		{[]string{"unban", "203.0.113.7"}, "is not banned any more"},
		{[]string{"policy", "list"}, "users       per_user  6/h       6  l7"},
		{[]string{"policy", "list"}, "per-client  per_ip    5/h       5  kernel"},
		{[]string{"policy", "list"}, "per-client  per_ip    7/h       7  l7"},
		{[]string{"policy", "explain", "--src", "192.0.2.9", "--proto", "icmp", "--iface", "eth0"}, "it passes if per-client admits it"},
		{[]string{"policy", "delete", "users"}, "removed    users"},
		{[]string{"status"}, "limits requests alone"},
	} {
		if out := s.ok(c.args...); !strings.Contains(out, c.want) {
			t.Errorf("weir %v lacks %q:\n%s", c.args, c.want, out)
		}
	}
	// What only one of the two has is changed where it is.
	s.writeText("interfaces: [{name: eth0}]\n")
	p.waitLog("restart weir run", 1)
	if after := s.attachment(); after.Program.ID != before.Program.ID {
		t.Errorf("program %d, want %d still", after.Program.ID, before.Program.ID)
	}
	p.signal(unix.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	s.attachment()
}
