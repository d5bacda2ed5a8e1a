package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	stageEntries = 1 << 10
	// patience bounds every wait far above what it needs on a busy machine.
	patience = 30 * time.Second
	// flooded is how many packets of a source a program is asked about: more than any burst here.
	flooded = 12
)

// stage is a network namespace with the two ends of a cable, v0 and v1, and a state directory. What is loaded on it
// bears a name of its own, so that it can be told from what others load meanwhile.
type stage struct {
	*testing.T
	ns      *lab.Namespace
	state   string
	name    string // of programs and maps in the kernel
	sources uint32 // how many were used up
}

var stages atomic.Uint32

func newStage(t *testing.T) *stage {
	t.Helper()
	testutil.RequireRoot(t)
	n := stages.Add(1)
	s := &stage{
		T: t, state: fmt.Sprintf("%s/weir-test-%d-stage%d", bpffsMount, os.Getpid(), n),
		name: fmt.Sprintf("w%xn%d", os.Getpid(), n),
	}
	var err error
	if s.ns, err = lab.NewNamespace(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.in(func() error { return s.withLock(func(d *StateDir) error { return d.DetachAll() }) })
		if err := s.ns.Close(); err != nil {
			t.Error(err)
		}
		s.expectObjects(objectCount{})
		if exists(s.state) {
			t.Errorf("%s is left behind", s.state)
			os.RemoveAll(s.state)
		}
	})
	s.cable("v0", "v1")
	return s
}

func (s *stage) cable(a, b string) {
	s.Helper()
	s.in(func() error {
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: a, TxQLen: -1})
		veth.PeerName = b
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		for _, name := range []string{a, b} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		return nil
	})
}

// in runs fn in the namespace, where it must succeed.
func (s *stage) in(fn func() error) {
	s.Helper()
	if err := s.ns.Do(fn); err != nil {
		s.Error(err)
	}
}

func (s *stage) withLock(fn func(d *StateDir) error) error {
	d, err := Lock(s.state, patience)
	if err != nil {
		return err
	}
	return errors.Join(fn(d), d.Close())
}

// set is a set of policies that a packet can tell from another one: by its burst.
type set struct {
	Name  string
	Burst uint64
}

var (
	oldSet = set{"old", 3}
	newSet = set{"new", 5}
)

func (p set) policies() []policy.Policy {
	return []policy.Policy{policy.Policy{
		Name: p.Name, Scope: policy.ScopePerIP, Limit: 1, Window: time.Hour, Burst: p.Burst,
	}.WithDefaults()}
}

// target is one place to attach to.
type target struct {
	Interface string
	Hook      Hook
	Mode      Mode
}

// everyHook are the hooks of one interface, and both ways to be at a TC hook.
var everyHook = []target{{"v0", HookXDP, ModeNative}, {"v0", HookTCIngress, bestTC}, {"v0", HookTCEgress, ModeClsAct}}

// bestTC is the best way to be at a TC hook that this kernel has: what else there is to test of the loader is so tested on kernels
// before 6.6 as well, which have no tcx.
var bestTC = func() Mode {
	if ProbeTCX() != nil {
		return ModeClsAct
	}
	return ModeTCX
}()

// options are those of an attachment of objects that bear a name.
func options(name string, at []target, p set) (all []AttachOptions, err error) {
	for _, x := range at {
		o := AttachOptions{
			Interface: x.Interface, Hook: x.Hook, Mode: x.Mode, Policies: p.policies(), TableEntries: stageEntries,
		}
		if o.Objects, err = ObjectsOf(x.Hook); err != nil {
			return nil, err
		}
		for _, program := range o.Objects.Programs {
			program.Name = name
		}
		for _, m := range o.Objects.Maps {
			if !strings.HasPrefix(m.Name, ".") { // the library knows a section's map, and freezes it, by its name
				m.Name = name
			}
		}
		all = append(all, o)
	}
	return all, nil
}

// attach attaches everywhere in one transaction; onStep may be nil.
func (s *stage) attach(at []target, p set, onStep func(string) error) error {
	s.Helper()
	return s.ns.Do(func() error {
		all, err := options(s.name, at, p)
		if err != nil {
			return err
		}
		return s.withLock(func(d *StateDir) error {
			d.onStep = onStep
			_, err := d.AttachAll(all)
			return err
		})
	})
}

func (s *stage) mustAttach(at []target, p set) {
	s.Helper()
	if err := s.attach(at, p, nil); err != nil {
		s.Fatal(err)
	}
}

// attachments reads what is attached, as "weir status" does.
func (s *stage) attachments() []Attachment {
	s.Helper()
	d, err := Open(s.state)
	if errors.Is(err, ErrNothingAttached) {
		return nil
	}
	if err != nil {
		s.Fatal(err)
	}
	var all []Attachment
	s.in(func() (err error) { all, err = d.Attachments(); return err })
	return all
}

// onHook asks the kernel, and not weir, which program packets meet: 0 if there is none.
func (s *stage) onHook(x target) (program ebpf.ProgramID) {
	s.Helper()
	s.in(func() error {
		iface, err := netlink.LinkByName(x.Interface)
		if err != nil {
			return err
		}
		if x.Hook == HookXDP {
			if xdp := iface.Attrs().Xdp; xdp != nil && xdp.Attached {
				program = ebpf.ProgramID(xdp.ProgId)
			}
			return nil
		}
		t := hookTable[x.Hook]
		if bestTC == ModeTCX {
			all, err := link.QueryPrograms(link.QueryOptions{Target: iface.Attrs().Index, Attach: t.tcx})
			if err != nil {
				return err
			}
			for _, p := range all.Programs {
				program = p.ID
			}
		}
		filters, _ := netlink.FilterList(iface, t.parent)
		for _, f := range filters {
			if bpf, ok := f.(*netlink.BpfFilter); ok && bpf.Name == filterName {
				program = ebpf.ProgramID(bpf.Id)
			}
		}
		return nil
	})
	return program
}

// passes sends packets of a source that nobody has seen to the program on a hook, and counts those that pass. All of
// them do if there is none.
func (s *stage) passes(x target) (n uint64) {
	s.Helper()
	id := s.onHook(x)
	if id == 0 {
		return flooded
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	s.sources++
	frame := udpFrame(s.sources)
	for range flooded {
		verdict, err := p.Run(&ebpf.RunOptions{Data: frame})
		if err != nil {
			s.Fatal(err)
		}
		if passed(x.Hook, verdict) {
			n++
		}
	}
	return n
}

func passed(h Hook, verdict uint32) bool {
	if h == HookXDP {
		return verdict == xdpPass
	}
	return int32(verdict) == -1 // TCX_NEXT, TC_ACT_UNSPEC
}

// udpFrame is one of 10.x.x.x to itself, so that it does not matter which end counts.
func udpFrame(source uint32) []byte {
	b := make([]byte, 60)
	b[12], b[14], b[22], b[23] = 8, 0x45, 64, 17
	binary.BigEndian.PutUint16(b[16:], 46)
	for _, at := range []int{26, 30} {
		binary.BigEndian.PutUint32(b[at:], 10<<24|source)
	}
	binary.BigEndian.PutUint16(b[38:], 26)
	return b
}

// expectEverywhere holds that every hook enforces exactly this set, and that status says so.
func (s *stage) expectEverywhere(at []target, want set) {
	s.Helper()
	for x, got := range s.inForceAt(at) {
		if got != want {
			s.Errorf("%v enforces %v, want %v", x, got, want)
		}
	}
}

// inForceAt tells which set each hook enforces, and holds that status tells the same.
func (s *stage) inForceAt(at []target) map[target]set {
	s.Helper()
	shown := map[target]set{}
	for _, a := range s.attachments() {
		x := target{a.Interface, a.Hook, a.Mode}
		if len(a.Policies) != 1 {
			s.Errorf("%v: status shows %d policies, want 1", x, len(a.Policies))
			continue
		}
		shown[x] = set{a.Policies[0].Name, a.Policies[0].Burst}
		if on := s.onHook(x); a.State == StateAttached && on != ebpf.ProgramID(a.Program.ID) {
			s.Errorf("%v: status shows program %d, packets meet %d", x, a.Program.ID, on)
		}
		if a.State == StateRemoved {
			delete(shown, x)
		}
	}
	found := map[target]set{}
	for _, x := range at {
		if _, ok := shown[x]; !ok {
			s.awaitFree(x)
		}
		n := s.passes(x)
		if n == flooded {
			if p, ok := shown[x]; ok {
				s.Errorf("%v limits nothing, and status shows %v", x, p)
			}
			continue
		}
		found[x] = shown[x]
		if shown[x].Burst != n {
			s.Errorf("%v lets %d packets pass, and status shows %v", x, n, shown[x])
		}
	}
	return found
}

// awaitFree waits until nothing is on a hook. A link whose last holder was killed goes some time later.
func (s *stage) awaitFree(x target) {
	s.Helper()
	s.await(fmt.Sprintf("%v is free", x), func() bool { return s.onHook(x) == 0 })
}

// await polls until a condition holds.
func (s *stage) await(what string, holds func() bool) {
	s.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(patience); !holds(); {
		select {
		case <-look.C:
		case <-deadline:
			s.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// objectCount is how much of a stage's is in the kernel.
type objectCount struct{ programs, maps int }

func (s *stage) objects() (n objectCount) {
	s.Helper()
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); err != nil {
			break
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it went before it could be opened, and was nobody's
		}
		if info, err := p.Info(); err == nil && info.Name == s.name {
			n.programs++
		}
		p.Close()
	}
	for id := ebpf.MapID(0); ; {
		var err error
		if id, err = ebpf.MapGetNextID(id); err != nil {
			break
		}
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		if info, err := m.Info(); err == nil && info.Name == s.name {
			n.maps++
		}
		m.Close()
	}
	return n
}

// expectObjects waits until so many are left: the kernel frees them some time after the last who held them let go.
func (s *stage) expectObjects(want objectCount) {
	s.Helper()
	s.await(fmt.Sprintf("%+v of this stage are in the kernel", want), func() bool { return s.objects() == want })
}
