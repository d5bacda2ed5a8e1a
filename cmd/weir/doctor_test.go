package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/loader"
)

// machineWith has files of the given contents and no others.
func machineWith(files map[string]string) *machine {
	return &machine{readFile: func(path string) ([]byte, error) {
		content, ok := files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(content), nil
	}}
}

// expect compares a grade, and parts of what was found.
func expect(t *testing.T, f finding, g grade, found string) {
	t.Helper()
	if f.Grade != g || !strings.Contains(f.Found, found) || f.Grade == gradeFail && f.Mend == "" {
		t.Errorf("%+v, want %s with %q, and a mend if it fails", f, g, found)
	}
}

func TestProbeLinux(t *testing.T) {
	for _, c := range []struct {
		release string
		want    grade
	}{
		{"5.15.0-105-generic", gradeOK},
		{"6.18.44", gradeOK},
		{"10.0", gradeOK},
		{"5.14.0-503.el9", gradeFail},
		{"4.19.0", gradeFail},
		{"unknown: not permitted", gradeWarn},
	} {
		expect(t, probeLinux(&machine{release: c.release}), c.want, c.release)
	}
}

func TestProbePrivileges(t *testing.T) {
	const everyID = "         0          0 4294967295\n"
	status := func(capabilities string) string { return "Name:\tweir\nCapEff:\t" + capabilities + "\nCapBnd:\t0\n" }
	for _, c := range []struct {
		name  string
		files map[string]string
		want  grade
		found string
	}{
		{"root", map[string]string{"/proc/self/status": status("000001ffffffffff"), "/proc/self/uid_map": everyID}, gradeOK, "CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN"},
		{"the two needed", map[string]string{"/proc/self/status": status("0000008000001000"), "/proc/self/uid_map": everyID}, gradeWarn, "no CAP_SYS_ADMIN"},
		{"nobody", map[string]string{"/proc/self/status": status("0000000000000000"), "/proc/self/uid_map": everyID}, gradeFail, "no CAP_BPF: no program can be loaded; no CAP_NET_ADMIN"},
		{"root of a container", map[string]string{"/proc/self/status": status("000001ffffffffff"), "/proc/self/uid_map": "0 1000 1\n"}, gradeFail, "user namespace"},
		{"no /proc", nil, gradeWarn, "not known"},
		{"odd /proc", map[string]string{"/proc/self/status": "Name: weir\n"}, gradeWarn, "no CapEff"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, probePrivileges(machineWith(c.files)), c.want, c.found) })
	}
}

func TestFeature(t *testing.T) {
	missing := failure("mend", "missing")
	expect(t, feature(nil, "there", missing), gradeOK, "there")
	expect(t, feature(fmt.Errorf("probe: %w", ebpf.ErrNotSupported), "there", missing), gradeFail, "missing")
	expect(t, feature(fmt.Errorf("probe: %w", unix.EPERM), "there", missing), gradeWarn, "may not ask")
	expect(t, feature(errors.New("odd"), "there", missing), gradeWarn, "odd")
}

// Every feature that the kernel lacks has a sentence on what weir does without it, or a mend.
func TestKernelFeatures(t *testing.T) {
	names := map[string]bool{}
	for _, p := range probes() {
		if names[p.check] {
			t.Errorf("two checks are called %s", p.check)
		}
		names[p.check] = true
	}
	for _, name := range []string{"xdp_link", "per_cpu_arrays", "prefix_tries", "coarse_clock", "ring_buffer", "tc", "tcx", "pacing"} {
		if !names[name] {
			t.Errorf("no check %s", name)
		}
	}
}

func TestJudgeNative(t *testing.T) {
	for _, c := range []struct {
		features uint64
		err      error
		mtu      int
		want     grade
		found    string
	}{
		{0, unix.ENOENT, 1500, gradeOK, "not known"},
		{0, nil, 1500, gradeOK, "generic XDP only"},
		{netdevXDPBasic, nil, 1500, gradeOK, "native XDP, MTU 1500"},
		{netdevXDPBasic, nil, onePageMTU, gradeOK, "native XDP, MTU"},
		{netdevXDPBasic, nil, 9000, gradeWarn, "not for an MTU of 9000"},
		{netdevXDPBasic | netdevXDPRxSG, nil, 9000, gradeOK, "jumbo frames too"},
	} {
		expect(t, judgeNative(c.features, c.err, c.mtu), c.want, c.found)
	}
}

// answering is a daemon that says one thing.
func answering(t *testing.T, readyz string) func() (*client, error) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if readyz == "" {
			http.NotFound(w, nil)
			return
		}
		_, _ = io.WriteString(w, readyz)
	}))
	t.Cleanup(s.Close)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
	return func() (*client, error) {
		return &client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, socket: "SOCK"}, nil
	}
}

func TestProbeDaemon(t *testing.T) {
	for _, c := range []struct {
		name   string
		daemon func() (*client, error)
		want   grade
		found  string
	}{
		{"none", func() (*client, error) { return nil, nil }, gradeOK, "none answers on /run/weir/weir.sock"},
		{"denied", func() (*client, error) { return nil, fs.ErrPermission }, gradeWarn, "may not ask"},
		{"ready", answering(t, `{"ready":true,"missing":[]}`), gradeOK, "answers on SOCK"},
		{"missing", answering(t, `{"ready":false,"missing":[{"interface":"eth0","hook":"xdp","reason":"gone"}]}`), gradeWarn, "eth0 (xdp): gone"},
		{"failed reload", answering(t, `{"ready":true,"missing":[],"failed_reload":{"errors":["weir.yaml:1:1: bad"]}}`), gradeWarn, "weir.yaml:1:1: bad"},
		{"another version's", answering(t, ""), gradeWarn, "404"},
		{"something else", answering(t, "hello"), gradeWarn, "invalid character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, probeDaemon(&machine{runDir: "/run/weir", daemon: c.daemon}), c.want, c.found)
		})
	}
}

func TestProbeState(t *testing.T) {
	attached := on("eth0", perIP("a", 10))
	vanished := loader.Attachment{Interface: "eth1", Namespace: ownNamespace(), State: loader.StateVanished}
	for _, c := range []struct {
		name  string
		m     machine
		want  grade
		found string
	}{
		{"nothing", machine{}, gradeOK, "nothing is attached"},
		{"attached", machine{attachments: []loader.Attachment{attached}}, gradeOK, "eth0: attached, 1 policy"},
		{"vanished", machine{attachments: []loader.Attachment{attached, vanished}}, gradeWarn, "eth0: attached, 1 policy; eth1: vanished, 0 policies"},
		{"denied", machine{stateErr: fmt.Errorf("open: %w", fs.ErrPermission)}, gradeWarn, "may not ask"},
		{"no bpffs", machine{stateErr: loader.ErrNoBPFFS}, gradeOK, "none yet"},
		{"another version's", machine{stateErr: loader.ErrIncompatible}, gradeFail, "pinned state does not fit"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, probeState(&c.m), c.want, c.found) })
	}
}

func TestWriteFindings(t *testing.T) {
	var out strings.Builder
	p := &page{w: &out}
	bad := failure("mend it", "broken")
	bad.Check, bad.Interface = "interface", "eth0"
	well := good("works")
	well.Check = "xdp"
	writeFindings(p, &doctorView{Checks: []finding{well, bad}})
	want := `      CHECK           FOUND
ok    xdp             works
fail  interface eth0  broken
                      mend: mend it

to limit requests alone, with a file of policies of layer l7 and no interfaces, weir run needs none of what failed
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

// doctorJSON runs weir doctor on the host's own interface.
func (s *site) doctorJSON(t *testing.T, wantCode int) map[string]finding {
	t.Helper()
	r := s.weir(t, "doctor", "--interface", "eth0", "-o", "json")
	var v doctorView
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if r.code != wantCode || v.OK != (wantCode == exitOK) {
		t.Errorf("exit code %d, want %d: %s%s", r.code, wantCode, r.out, r.err)
	}
	found := map[string]finding{}
	for _, f := range v.Checks {
		found[f.Check] = f
	}
	return found
}

func TestDoctor(t *testing.T) {
	s := newSite(t)
	found := s.doctorJSON(t, exitOK)
	for _, p := range probes() {
		if f, ok := found[p.check]; !ok || f.Found == "" {
			t.Errorf("%s: %+v, want a finding", p.check, f)
		}
	}
	expect(t, found["interface"], gradeOK, "up, Ethernet, driver veth, native XDP")
	expect(t, found["interface"], gradeOK, "receive queue")
	expect(t, found["interface"], gradeOK, "no LRO")
	expect(t, found["interface"], gradeOK, "no XDP program")

	s.attach(t, testConfig)
	found = s.doctorJSON(t, exitOK)
	expect(t, found["interface"], gradeOK, "weir's program")
	expect(t, found["state_directory"], gradeOK, "eth0: attached, 2 policies")

	lock, err := loader.Lock(s.stateDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s.doctorJSON(t, exitOK)["lock"], gradeOK, "held by process")
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, s.doctorJSON(t, exitOK)["lock"], gradeOK, "free")
}

func TestDoctorFindsFaults(t *testing.T) {
	s := newSite(t)
	attachForeign(t, s)
	f := s.doctorJSON(t, exitFailure)["interface"]
	expect(t, f, gradeFail, "somebody else's XDP program")
	expect(t, f, gradeFail, "foreign")
	if r := s.weir(t, "doctor", "--interface", "nope0"); r.code != exitFailure || !strings.Contains(r.out, "no such interface") {
		t.Errorf("unknown interface: %+v", r)
	}
	// Nobody said that weir is to go there.
	if r := s.weir(t, "doctor"); r.code != exitOK || !strings.Contains(r.out, "warn  interface eth0") {
		t.Errorf("all interfaces: %+v", r)
	}
}

// attachForeign puts somebody else's program on the host's interface.
func attachForeign(t *testing.T, s *site) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	index, err := s.pair.B.Index()
	if err != nil {
		t.Fatal(err)
	}
	err = s.pair.B.Do(func() error {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
