package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/server"
)

// weir runs another weir beside the daemon, and gives what it prints.
func (s *site) weir(args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.binary, append(args, "--bpffs", s.stateDir, "--run-dir", s.runDir)...)
	var out []byte
	err := s.A.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	return string(out), err
}

// ok is weir for what has to succeed.
func (s *site) ok(args ...string) string {
	s.t.Helper()
	out, err := s.weir(args...)
	if err != nil {
		s.t.Fatalf("weir %v: %v: %s", args, err, out)
	}
	return out
}

// config is another file than the daemon's, with a policy of that limit per hour.
func (s *site) config(limit int) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "other.yaml")
	text := fmt.Sprintf("policies: [{name: per-client, scope: per_ip, limit: %d, window: 1h}]\n", limit)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// runApply: what the commands change is in force at once, and until the file is loaded again.
func runApply(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	s.send(4, 4)
	if out := s.ok("policy", "apply", "-f", s.config(1000), "--dry-run"); !strings.Contains(out, "limit: 5 -> 1000") || !strings.Contains(out, "dry run") {
		t.Errorf("dry run:\n%s", out)
	}
	if got := s.attachment().Policies[0].Limit; got != 5 {
		t.Errorf("limit %d after the dry run, want 5", got)
	}
	out := s.ok("policy", "apply", "-f", s.config(1000))
	if !strings.Contains(out, "~ changed    per-client") || !strings.Contains(out, "until the file is loaded again") {
		t.Errorf("apply:\n%s", out)
	}
	if got := s.attachment().Policies[0].Limit; got != 1000 {
		t.Errorf("limit %d after apply, want 1000", got)
	}
	p.waitLog("policies were changed by the admin API", 1)
	s.send(10, 14)
	if out := s.ok("status"); !strings.Contains(out, "changed by the admin API at ") {
		t.Errorf("status:\n%s", out)
	}
	if out := s.ok("policy", "get", "per-client"); !strings.Contains(out, "1000/h") || !strings.Contains(out, "pass") {
		t.Errorf("get:\n%s", out)
	}
	if out := s.ok("policy", "explain", "--src", "192.0.2.9", "--proto", "icmp", "--iface", "eth0"); !strings.Contains(out, "1000/h") {
		t.Errorf("explain:\n%s", out)
	}
	if out, err := s.weir("policy", "delete", "nobody"); err == nil || !strings.Contains(out, "there are: per-client") {
		t.Errorf("delete of nobody: %v: %s", err, out)
	}
	s.ok("policy", "delete", "per-client")
	if got := s.attachment().Policies; len(got) != 0 {
		t.Errorf("policies %v after delete, want none", got)
	}
	p.signal(unix.SIGHUP)
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Policies[0].Limit; got != 5 {
		t.Errorf("limit %d after the reload, want that of the file", got)
	}
	if out := s.ok("status"); strings.Contains(out, "admin API") || !strings.Contains(out, "answers on") {
		t.Errorf("status after the reload:\n%s", out)
	}
}

// runApplyInvalid: what the daemon refuses it refuses as a whole, with a reason for each field.
func runApplyInvalid(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.run()
	s.waitReady(200)
	before := s.attachment().Program
	answer := s.ask("PUT", "/v1/policies", `{"policies":[{"name":"A","scope":"per_ip","limit":5,"window":"1s"},{"name":"b","scope":"per_ip","limit":0,"window":"1s"}]}`)
	var problem server.Problem
	if err := json.Unmarshal([]byte(answer), &problem); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	if problem.Status != 422 || len(problem.Errors) != 2 || problem.Errors[1].Field != "policies[1].limit" {
		t.Errorf("problem %+v, want two faults", problem)
	}
	if after := s.attachment().Program; after.ID != before.ID {
		t.Errorf("program %d, want %d still", after.ID, before.ID)
	}
}

// ask asks the daemon on its socket without any of weir's own code.
func (s *site) ask(method, path, body string) string {
	s.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.runDir, "weir.sock"))
	}
	_, text, err := s.request(dial, method, "http://weir"+path, body, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// overTCP asks the daemon at server.http, with a header Authorization.
func (s *site) overTCP(method, path, authorization string) (int, string) {
	s.t.Helper()
	status, text, err := s.request(s.dialTCP, method, "http://"+runHTTP+path, "", authorization)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, text
}

func (s *site) request(dial func(context.Context, string, string) (net.Conn, error), method, url, body, authorization string) (int, string, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	client := http.Client{Timeout: runLimit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// runBans: a daemon holds the state directory, so it bans for the commands.
func runBans(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	if out := s.ok("ban", "203.0.113.0/24", "--for", "1h"); !strings.Contains(out, "203.0.113.0/24 is banned for 1h") {
		t.Errorf("ban: %s", out)
	}
	p.waitLog("msg=banned prefix=203.0.113.0/24", 1)
	if out := s.ok("bans"); !strings.Contains(out, "203.0.113.0/24  59m") {
		t.Errorf("bans: %s", out)
	}
	if answer := s.ask("GET", "/v1/bans", ""); !strings.Contains(answer, `"prefix":"203.0.113.0/24"`) {
		t.Errorf("bans of the API: %s", answer)
	}
	if out, err := s.weir("ban", "::/0", "--for", "1h"); err == nil || !strings.Contains(out, "every address") {
		t.Errorf("ban of everybody: %v: %s", err, out)
	}
	s.ok("unban", "203.0.113.0/24")
	if out, err := s.weir("unban", "203.0.113.0/24"); err == nil || !strings.Contains(out, "not banned") {
		t.Errorf("unban again: %v: %s", err, out)
	}
}

// runSocketInUse: two daemons can't share a runtime directory, and a command can't mistake one for the other.
func runSocketInUse(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.run()
	s.waitReady(200)
	mine := s.stateDir
	s.stateDir += "-other"
	defer func() { s.stateDir = mine }()
	second := s.run()
	if code := second.end(); code != 1 || !strings.Contains(second.log.String(), "choose another --run-dir") {
		t.Errorf("exit code %d and %q, want 1 and the mend", code, second.log)
	}
	if out, err := s.weir("policy", "delete", "per-client"); err == nil || !strings.Contains(out, "works on the state directory "+mine) {
		t.Errorf("a command for another state directory: %v: %s", err, out)
	}
}

// runSocketLeft: the socket of a daemon that was killed is in nobody's way.
func runSocketLeft(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	p.kill()
	socket := filepath.Join(s.runDir, "weir.sock")
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Fatalf("what the killed daemon left: %v, %v", info, err)
	}
	// Nobody answers: the command makes the change itself.
	s.ok("policy", "apply", "-f", s.config(7))
	if got := s.attachment().Policies[0].Limit; got != 7 {
		t.Errorf("limit %d, want 7", got)
	}
	p = s.run()
	s.waitReady(200)
	p.signal(unix.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a proper end: %v, want the socket gone", err)
	}
}

// runToken: with a token file changes are taken over TCP from who shows it.
func runToken(t *testing.T, s *site) {
	const token = "0123456789abcdef-secret"
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write(5, "eth0")
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.writeText(strings.Replace(string(text), "server: {", "server: {admin_token_file: "+path+", ", 1))
	p := s.run()
	s.waitReady(200)
	const mine = "/v1/policies/per-client"
	if got, body := s.overTCP("DELETE", mine, "Bearer wrong-0123456789abcdef"); got != 401 {
		t.Errorf("with a wrong token: %d %s, want 401", got, body)
	}
	if got, body := s.overTCP("DELETE", mine, "Bearer "+token); got != 200 {
		t.Errorf("with the token: %d %s, want 200", got, body)
	}
	if got := s.attachment().Policies; len(got) != 0 {
		t.Errorf("policies %v, want none", got)
	}
	if strings.Contains(p.log.String(), token) {
		t.Error("the token is in the log")
	}
	// A token that everybody may read is none, and the reload changes nothing.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGHUP)
	p.waitLog("chmod 0600", 1)
}
