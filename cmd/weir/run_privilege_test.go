package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// runPrivileges: every thread keeps three capabilities, and with them a reload works.
func runPrivileges(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.run()
	s.waitReady(200)
	s.write(6, "eth0")
	p.signal(unix.SIGHUP)
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Policies[0].Limit; got != 6 {
		t.Errorf("limit %d after the reload, want 6", got)
	}
	for _, line := range threadLines(t, p, "Cap", "NoNewPrivs") {
		const want = "000000c000001000" // CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN
		ok := map[string]string{
			"CapInh": "0000000000000000", "CapPrm": want, "CapEff": want, "CapBnd": want,
			"CapAmb": "0000000000000000", "NoNewPrivs": "1",
		}
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(value) != ok[name] {
			t.Errorf("a thread has %s, want %s", line, ok[name])
		}
	}
}

// runUnreadable: a file that only CAP_DAC_OVERRIDE lets root read is complained of before a reload needs it.
func runUnreadable(t *testing.T, s *site) {
	const nobody = 65534
	s.write(5, "eth0")
	if err := os.Chown(s.file, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	p := s.run()
	s.waitReady(200)
	p.waitLog("no reload will work", 1)
	p.signal(unix.SIGHUP)
	p.waitLog("not reloaded", 1)
	s.attachment()
}

// runMountNamespace: under "ip netns exec" the bpf file system is reached by the caller's mounts.
func runMountNamespace(t *testing.T, s *site) {
	s.write(5, "eth0")
	p := s.runBy([]string{"unshare", "--mount", "sh", "-c", `umount -l /sys/fs/bpf && exec "$0" "$@"`})
	s.waitReady(200)
	s.write(6, "eth0")
	p.signal(unix.SIGHUP)
	p.waitLog("msg=reloaded", 1)
	if got := s.attachment().Policies[0].Limit; got != 6 {
		t.Errorf("limit %d after the reload, want 6", got)
	}
	p.waitLog("all capabilities are kept", 1)
}

// threadLines reads the lines that begin so from the status of every thread.
func threadLines(t *testing.T, p *process, prefixes ...string) []string {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.Process.Pid))
	if err != nil || len(paths) < 3 {
		t.Fatalf("threads of weir: %v, %v; want several", paths, err)
	}
	var lines []string
	for _, path := range paths {
		status, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that ended
		}
		for line := range strings.Lines(string(status)) {
			if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(line, prefix) }) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}
