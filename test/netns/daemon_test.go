package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// daemon is a `weir run` on host B.
type daemon struct {
	r    *rig
	cmd  *exec.Cmd
	log  testutil.Log
	exit chan error
}

// daemon starts `weir run`, and waits until the interface has another program than before.
func (r *rig) daemon(file string, args ...string) *daemon {
	r.Helper()
	before := r.xdp()
	d := &daemon{r: r, exit: make(chan error, 1), cmd: r.command(append([]string{"run", "-c", file}, args...)...)}
	d.cmd.Stderr = &d.log
	if err := r.B.Do(d.cmd.Start); err != nil {
		r.Fatal(err)
	}
	go func() { d.exit <- d.cmd.Wait(); close(d.exit) }()
	r.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exit
		if r.Failed() {
			r.Logf("weir run:\n%s", d.log.String())
		}
	})
	r.awaitProgram(before)
	return d
}

func (d *daemon) signal(s syscall.Signal) {
	d.r.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.r.Fatal(err)
	}
}

// end sends a signal and returns the exit code: -1 for a daemon that was killed.
func (d *daemon) end(s syscall.Signal) int {
	d.r.Helper()
	d.signal(s)
	<-d.exit
	return d.cmd.ProcessState.ExitCode()
}

func (r *rig) rewrite(file, with string) {
	r.Helper()
	if err := os.Rename(with, file); err != nil {
		r.Fatal(err)
	}
}

const onEth0 = "interfaces: [{name: eth0}]"

// Whatever happens to the processes around it, the bucket of a flooding source gives burst + rate * t, from the first
// packet to the last.
func TestNoPacketPassesUnlimitedThroughKillAndUpgrade(t *testing.T) {
	const limited, shadow = "name: limited, limit: 1000, window: 1s, burst: 100", "name: extra, limit: 5, window: 1s, mode: shadow"
	r := newRig(t, lab.PairSpec{})
	file := r.configWith(onEth0, limited)
	first := r.daemon(file)
	sniffer := r.sniff()
	ids := map[uint32]string{}
	changed := func(step string) {
		t.Helper()
		a := r.attached()
		if before, ok := ids[a.Program.ID]; ok {
			t.Errorf("%s: program %d is still that of %q", step, a.Program.ID, before)
		}
		ids[a.Program.ID] = step
		if r.xdp() != a.Program.ID {
			t.Errorf("%s: status says program %d, on the interface is %d", step, a.Program.ID, r.xdp())
		}
		r.goOn()
	}
	f := r.during(r.frame(r.A.IPv4, nil), func() {
		changed("weir run")
		id := r.xdp()
		if code := first.end(syscall.SIGKILL); code != -1 {
			t.Errorf("killed: exit code %d", code)
		}
		r.goOn()
		if r.xdp() != id {
			t.Errorf("the daemon's death changed the program from %d to %d", id, r.xdp())
		}
		r.attach("native", limited, shadow)
		changed("weir attach after the kill")

		second := r.daemon(file)
		changed("weir run again")
		id = r.xdp()
		r.rewrite(file, r.configWith(onEth0, limited+", priority: 7", shadow))
		second.signal(syscall.SIGHUP)
		r.awaitProgram(id)
		changed("SIGHUP")
		id = r.xdp()
		if code := second.end(syscall.SIGTERM); code != 0 || r.xdp() != id {
			t.Errorf("SIGTERM: exit code %d, program %d, want 0 and %d", code, r.xdp(), id)
		}

		builtIn := r.attached().Program.Tag
		if err := r.upgrade(); err != nil {
			t.Fatal(err)
		}
		changed("an upgrade")
		if tag := r.attached().Program.Tag; tag == builtIn {
			t.Errorf("the upgraded program has the old tag %s", tag)
		}
		r.attach("native", limited)
		changed("a downgrade")
		if tag := r.attached().Program.Tag; tag != builtIn {
			t.Errorf("the built-in program has tag %s, want %s", tag, builtIn)
		}
	})
	arrived := r.arrivals(sniffer, r.counters().Policies["limited"][policy.VerdictPass].Packets)
	r.expectRate(f, from(arrived, r.A.IPv4), 1000, 100, 1)
	if n := r.used("limited", r.A.IPv4); n != sniffer.Total() {
		t.Errorf("the bucket gave %d tokens, %d packets arrived", n, sniffer.Total())
	}
}

// upgrade attaches an object whose program differs by an instruction without effect.
func (r *rig) upgrade() error {
	r.Helper()
	spec := objects(r.T)
	p := spec.Programs["weir_xdp"]
	// Second, as the first one bears the function's name and type.
	p.Instructions = append(asm.Instructions{p.Instructions[0], asm.Mov.Imm(asm.R5, 0)}, p.Instructions[1:]...)
	return r.attachObjects(loader.ModeNative, spec, r.policies("limited", 1000, 100, policy.UnitRequests)...)
}

// A limit that is tightened by SIGHUP holds from the next packet on.
func TestATightenedLimitHoldsAtOnce(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	file := r.configWith(onEth0, "limit: 10000, window: 1s, burst: 1000")
	d := r.daemon(file)
	sniffer := r.sniff()
	id := r.xdp()
	r.during(r.frame(r.A.IPv4, nil), func() {
		r.goOn()
		r.rewrite(file, r.configWith(onEth0, "limit: 1, window: 1h, burst: 1"))
		d.signal(syscall.SIGHUP)
		r.awaitProgram(id)
	})
	passed := r.counters().Policies["p0"][policy.VerdictPass].Packets
	r.flood(lab.Load{Rate: 100_000, Count: 20_000}, r.frame(r.A.IPv4, nil))
	// What the old limit left owing is paid after 100 ms, and then the source has the new limit's burst.
	now := r.counters().Policies["p0"][policy.VerdictPass].Packets
	if now > passed+1 {
		t.Errorf("%d packets passed since, want 1 at most", now-passed)
	}
	r.arrivals(sniffer, now)
	r.rewrite(file, r.configWith(onEth0, "limit: 0, window: 1s"))
	id = r.xdp()
	d.signal(syscall.SIGHUP)
	r.await("the daemon says what is wrong with the file", func() bool {
		return bytes.Contains([]byte(d.log.String()), []byte("the file is not reloaded"))
	})
	if r.xdp() != id {
		t.Error("a file that is not valid changed the program")
	}
}

func TestDetachOnExitLeavesNothing(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	d := r.daemon(r.configWith(onEth0, "limit: 10, window: 1s"), "--detach-on-exit")
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, d.log.String())
	}
	r.expectNothingPinned()
	r.expectInterfaceFree()
}

// Two daemons, or a daemon and a command, never change one state directory at a time; who has to wait is told for whom.
func TestASecondInstanceNamesTheFirst(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	file := r.configWith(onEth0, "limit: 10, window: 1s")
	first := r.daemon(file)
	pid := fmt.Sprintf("process %d (weir)", first.cmd.Process.Pid)
	before := r.attached()
	r.failWeir([]string{pid, r.state}, "run", "-c", file)
	r.failWeir([]string{pid, r.state}, "attach", "eth0", "-c", file)
	if now := r.attached(); now.Program != before.Program {
		t.Errorf("program %v is attached, want %v", now.Program, before.Program)
	}
	// Reading needs no lock.
	r.mustWeir("policy", "list", "-o", "json")
}

func TestTwoStateDirectoriesWorkSideBySide(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	other := buildRig(t, lab.PairSpec{})
	mine, theirs := r.configWith(onEth0, "limit: 1, window: 1h, burst: 10"), other.configWith(onEth0, "limit: 1, window: 1h, burst: 20")
	r.daemon(mine)
	other.daemon(theirs)
	for _, x := range []struct {
		*rig
		burst uint64
	}{{r, 10}, {other, 20}} {
		sniffer := x.sniff()
		x.flood(lab.Load{Rate: 10_000, Count: 100}, x.frame(x.A.IPv4, nil))
		x.arrivals(sniffer, x.burst)
		if a := x.attached(); a.Policies[0].Burst != x.burst {
			t.Errorf("%s has a burst of %d, want %d", x.state, a.Policies[0].Burst, x.burst)
		}
	}
}
