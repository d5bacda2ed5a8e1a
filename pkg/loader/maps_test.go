package loader

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

func lockedForMaps(t *testing.T) *StateDir {
	t.Helper()
	testutil.RequireRoot(t)
	d, err := Lock(fmt.Sprintf("%s/weir-test-%d-%s", bpffsMount, os.Getpid(), t.Name()), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.DetachAll(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestMapsOfNothing(t *testing.T) {
	d := lockedForMaps(t)
	if maps, err := d.Maps(); err != nil || len(maps) != 0 {
		t.Errorf("Maps() = %+v, %v, want none", maps, err)
	}
	if constants, err := d.Constants(); err != nil || len(constants) != 0 {
		t.Errorf("Constants() = %+v, %v, want none", constants, err)
	}
	if holder, want := d.LockHolder(), fmt.Sprintf("process %d (", os.Getpid()); len(holder) < len(want) || holder[:len(want)] != want {
		t.Errorf("LockHolder() = %q, want %s...", holder, want)
	}
}

func TestMapsOfAnAttachment(t *testing.T) {
	d := lockedForMaps(t)
	pair, err := lab.NewPair(t.Context(), lab.PairSpec{B: lab.HostSpec{Interface: "eth0.7"}})
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	p := policy.Policy{Name: "a", Scope: policy.ScopePerIP, Limit: 1000, Window: time.Second, Burst: 7, IPv4Prefix: 24}.WithDefaults()
	err = pair.B.Do(func() error {
		_, err := d.Attach(AttachOptions{Interface: "eth0.7", Mode: ModeAuto, Policies: []policy.Policy{p}, TableEntries: 64})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	maps, err := d.Maps()
	if err != nil || len(maps) != len(sharedPins)+len(ownMaps) || maps[0].Name != "table" || maps[0].MaxEntries != 16 || maps[len(sharedPins)].Interface != "eth0.7" {
		t.Errorf("Maps() = %+v, %v", maps, err)
	}
	layout, err := d.PinnedLayout()
	if err != nil || layout != LayoutVersion {
		t.Errorf("PinnedLayout() = %d, %v", layout, err)
	}
	constants, err := d.Constants()
	if err != nil || len(constants) != 1 || constants[0].TableMask != 15 {
		t.Fatalf("Constants() = %+v, %v", constants, err)
	}
	want := PolicyConstants{
		Name: "a", TokenTime: 256e6, Depth: 7 * 256e6, Burst: 7, IPv4Mask: "ffffff00", IPv6Mask: "ffffffffffffffff0000000000000000",
		Scope: policy.ScopePerIP, Unit: policy.UnitRequests, Mode: policy.ModeEnforce, OnPressure: policy.PressurePass, Coarse: constants[0].Policies[0].Coarse,
	}
	if constants[0].Policies[0] != want {
		t.Errorf("constants %+v, want %+v", constants[0].Policies[0], want)
	}
	policies, err := d.PolicyStats()
	if err != nil || len(policies) != 1 || len(policies[0].CPUs) == 0 {
		t.Errorf("PolicyStats() = %+v, %v", policies, err)
	}
	interfaces, err := d.InterfaceStats()
	if err != nil || len(interfaces) != 1 || len(interfaces[0].CPUs) == 0 {
		t.Errorf("InterfaceStats() = %+v, %v", interfaces, err)
	}
}
