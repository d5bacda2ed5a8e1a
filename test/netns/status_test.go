package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// status is what the tests read of `weir status -o json`: names that scripts rely on.
type status struct {
	StateDir    string       `json:"state_dir"`
	Attachments []attachment `json:"attachments"`
	Table       *struct {
		Capacity int    `json:"capacity"`
		Claimed  int    `json:"claimed"`
		Owing    int    `json:"owing"`
		Pressure uint64 `json:"pressure"`
	} `json:"table"`
}

type attachment struct {
	Interface string            `json:"interface"`
	Index     int               `json:"ifindex"`
	Hook      string            `json:"hook"`
	Mode      string            `json:"mode"`
	State     string            `json:"state"`
	Program   program           `json:"program"`
	Policies  []policyStatus    `json:"policies"`
	Unparsed  map[string]uint64 `json:"unparsed"`
	Pressure  uint64            `json:"table_pressure"`
}

type program struct {
	ID   uint32 `json:"id"`
	Name string `json:"name"`
	Tag  string `json:"tag"`
}

type policyStatus struct {
	Name     string                          `json:"name"`
	Burst    uint64                          `json:"burst"`
	Counters map[policy.Verdict]loader.Count `json:"counters"`
}

// status runs `weir status -o json`.
func (r *rig) status() status {
	r.Helper()
	return r.statusOf(r.state)
}

func (r *rig) statusOf(state string) (s status) {
	r.Helper()
	res := r.mustWeir("status", "-o", "json", "--bpffs", state)
	if err := json.Unmarshal([]byte(res.stdout), &s); err != nil {
		r.Fatalf("status: %v: %v", err, res)
	}
	return s
}

// attached is the one attachment that status shows.
func (r *rig) attached() attachment {
	r.Helper()
	s := r.status()
	if len(s.Attachments) != 1 {
		r.Fatalf("%d attachments, want 1: %+v", len(s.Attachments), s.Attachments)
	}
	r.programs[s.Attachments[0].Program.ID] = true
	return s.Attachments[0]
}

// awaitProgram waits until another program than before is on the interface, and pinned: a change is complete only then.
func (r *rig) awaitProgram(before uint32) {
	r.Helper()
	r.await("another program is enforced", func() bool {
		id := r.xdp()
		if id == 0 || id == before {
			return false
		}
		all, err := r.attachments()
		return err == nil && len(all) == 1 && all[0].Program.ID == id
	})
}

// attachments reads what is pinned, without a process for it.
func (r *rig) attachments() ([]loader.Attachment, error) {
	d, err := loader.Open(r.state)
	if err != nil {
		return nil, err
	}
	return d.Attachments()
}

// counters reads the kernel's counters of the one attachment.
func (r *rig) counters() loader.Counters {
	r.Helper()
	all, err := r.attachments()
	if err != nil || len(all) != 1 {
		r.Fatalf("%d attachments, want 1: %v", len(all), err)
	}
	return all[0].Counters
}

// seen is how many packets a program has decided on. An enforcing policy counts what it drops, and what all of them
// let pass; one in shadow, all that those let pass.
func seen(c loader.Counters) (n uint64) {
	var passed uint64
	for _, p := range c.Policies {
		n += p[policy.VerdictDrop].Packets
		passed = max(passed, p[policy.VerdictPass].Packets+p[policy.VerdictShadowDrop].Packets)
	}
	for _, reason := range []string{"truncated", "not_ip", "vlan_depth", "bad_header", "neighbor_discovery"} {
		n += c.Unparsed[reason] // the other reasons concern packets that were charged
	}
	for _, listed := range c.Listed {
		n += listed.Packets
	}
	return n + passed
}

// used is how many tokens a source's bucket has given for packets, as the command says: what CPUs have leased and
// not spent is not among them.
func (r *rig) used(policy string, source netip.Addr) uint64 {
	r.Helper()
	var b struct {
		Used   uint64 `json:"used"`
		Leased uint64 `json:"leased"`
	}
	res := r.mustWeir("bucket", "get", policy, source.String(), "-o", "json")
	if err := json.Unmarshal([]byte(res.stdout), &b); err != nil {
		r.Fatalf("bucket get: %v: %v", err, res)
	}
	return b.Used - b.Leased
}

// expectInterfaceFree holds that host B's interface has no XDP program.
func (r *rig) expectInterfaceFree() {
	r.Helper()
	if id := r.xdp(); id != 0 {
		r.Errorf("program %d is on %s", id, r.B.Interface)
	}
}

// xdp is the id of the XDP program on host B's interface, as the kernel says; 0 if there is none.
func (r *rig) xdp() (id uint32) {
	r.Helper()
	err := r.B.Do(func() error {
		l, err := netlink.LinkByName(r.B.Interface)
		if err == nil && l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached {
			id = l.Attrs().Xdp.ProgId
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	if id != 0 {
		r.programs[id] = true
	}
	return id
}

// expectFreed holds that the kernel has freed every program that was seen on the interface, which it does some time
// after the last who held it let go. Programs of others are none of this test's business.
func (r *rig) expectFreed() {
	r.Helper()
	for id := range r.programs {
		r.await(fmt.Sprintf("program %d is freed", id), func() bool {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			if err == nil {
				p.Close()
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
}
