package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

var twoCPUs = machine{cpus: 2, tick: 4 * time.Millisecond}

func kernelPolicy(name string, limit, burst uint64) policy.Policy {
	return policy.Policy{
		Name: name, Scope: policy.ScopePerIP, Layer: policy.LayerKernel, Limit: limit, Window: time.Second, Burst: burst,
	}.WithDefaults()
}

// C is the one source of the layout, by way of BTF; the Go twin has structs of its own.
func TestLayoutIsThatOfTheTwin(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kernel any
		twin   any
	}{
		{"bucket_limit", xdpBucketLimit{}, bucket.Limit{}},
		{"hash_key", xdpHashKey{}, bucket.HashKey{}},
		{"rate", xdpRate{}, bucket.Rate{}},
	} {
		k, w := reflect.TypeOf(tt.kernel), reflect.TypeOf(tt.twin)
		if k.Size() != w.Size() {
			t.Errorf("%s: %d bytes in the kernel, %d in the twin", tt.name, k.Size(), w.Size())
		}
		for i := range w.NumField() {
			f := w.Field(i)
			if f.Name == "_" {
				continue
			}
			in, ok := k.FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, f.Name) })
			if !ok || in.Offset != f.Offset || in.Type.Size() != f.Type.Size() {
				t.Errorf("%s.%s: the kernel has it at %d (%v), the twin at %d", tt.name, f.Name, in.Offset, ok, f.Offset)
			}
		}
	}
	if got := unsafe.Sizeof(xdpBucketSet{}); got != bucket.SetSize {
		t.Errorf("bucket_set: %d bytes in the kernel, %d in the twin", got, bucket.SetSize)
	}
}

// The twin reads entries through its own struct, so compare what it sees in bytes that C laid out.
func TestTwinReadsEntries(t *testing.T) {
	set := xdpBucketSet{}
	set.Way[2] = xdpBucketEntry{Fingerprint: 7, Used: 42, Tat: 1 << 50}
	memory, err := binary.Append(nil, binary.NativeEndian, set)
	if err != nil {
		t.Fatal(err)
	}
	table, err := bucket.NewTable(memory)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := table.Lookup(7 << 32)
	if want := (bucket.Entry{Way: 2, Fingerprint: 7, Used: 42, TAT: 1 << 50}); !ok || e != want {
		t.Errorf("Lookup = %+v, %v; want %+v", e, ok, want)
	}
}

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := kernelPolicy(rapid.StringMatching(`[a-z0-9_-]{1,63}`).Draw(t, "name"),
			rapid.Uint64Range(1, 1e8).Draw(t, "limit"), rapid.Uint64Range(1514, 1e6).Draw(t, "burst"))
		p.Unit = rapid.SampledFrom(policy.Units()).Draw(t, "unit")
		p.Mode = rapid.SampledFrom([]policy.Mode{policy.ModeEnforce, policy.ModeShadow}).Draw(t, "mode")
		p.OnPressure = rapid.SampledFrom(policy.Pressures()).Draw(t, "pressure")
		p.IPv4Prefix = rapid.Uint8Range(1, 32).Draw(t, "v4")
		p.IPv6Prefix = rapid.Uint8Range(1, 128).Draw(t, "v6")
		p.Priority = rapid.Int().Draw(t, "priority")
		c, err := twoCPUs.encode(HookXDP, []policy.Policy{p}, bucket.Secret{1, 2}, map[string]uint8{p.Name: 9})
		if err != nil {
			t.Fatal(err)
		}
		got := decode(&c.policies[0], p)
		if diff := cmp.Diff(p, got.Policy); diff != "" || got.Slot != 9 {
			t.Errorf("slot %d, policy (-want +got):\n%s", got.Slot, diff)
		}
		if want := bucket.DeriveKey(bucket.Secret{1, 2}, "per_ip", p.Name); got.key != want {
			t.Error("the key is not the policy's")
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	many := make([]policy.Policy, MaxPolicies+1)
	for i := range many {
		many[i] = kernelPolicy(fmt.Sprintf("p%d", i), 1, 1)
	}
	l7 := kernelPolicy("l7", 1, 1)
	l7.Layer = policy.LayerL7
	for name, policies := range map[string][]policy.Policy{
		"too many":       many,
		"not the kernel": {l7},
		"no limit":       {kernelPolicy("zero", 0, 1)},
	} {
		if _, err := twoCPUs.encode(HookXDP, policies, bucket.Secret{}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAssignSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}`), 0, MaxPolicies, rapid.ID)
		before, after := names.Draw(t, "before"), names.Draw(t, "after")
		var running []LoadedPolicy
		had := map[string]uint8{}
		for i, name := range before {
			slot := uint8(MaxPolicies - 1 - i)
			running = append(running, LoadedPolicy{Policy: policy.Policy{Name: name}, Slot: slot})
			had[name] = slot
		}
		var policies []policy.Policy
		for _, name := range after {
			policies = append(policies, policy.Policy{Name: name})
		}
		slots, fresh := assignSlots(policies, running)
		used := map[uint8]bool{}
		kept := 0
		for _, name := range after {
			if used[slots[name]] {
				t.Fatalf("slot %d was given twice", slots[name])
			}
			used[slots[name]] = true
			if slot, ok := had[name]; ok {
				kept++
				if slot != slots[name] {
					t.Errorf("%s counted in slot %d, and now in %d", name, slot, slots[name])
				}
			}
		}
		if kept+len(fresh) != len(after) {
			t.Errorf("%d slots kept and %d to be cleared, want %d in all", kept, len(fresh), len(after))
		}
	})
}

func TestAttachmentID(t *testing.T) {
	for _, iface := range []string{"eth0", "eth0.100", "a@b", "50%", "%2e", "x:y"} {
		id := attachmentID{HookXDP, iface, 4026531840}
		got, ok := parseAttachmentID(id.String())
		if !ok || got != id {
			t.Errorf("%q came back from %q as %+v, %v", iface, id, got, ok)
		}
	}
	for _, name := range []string{"table", "identity", tmpName, "xdp:eth0", "xdp:eth0@", "xdp:eth0@x"} {
		if id, ok := parseAttachmentID(name); ok {
			t.Errorf("%q was taken for the attachment %+v", name, id)
		}
	}
}

// A packet can't wait for a store.
func TestEncodeRefusesConsistency(t *testing.T) {
	for _, c := range policy.Consistencies() {
		p := kernelPolicy("p", 1000, 1000)
		p.Consistency = c
		encoded, err := machine{1, time.Millisecond}.encode(HookXDP, []policy.Policy{p}, bucket.Secret{1, 2}, nil)
		switch {
		case c == policy.ConsistencyLocal || c == policy.ConsistencyReconciled:
			if want := c == policy.ConsistencyReconciled; err != nil || encoded.shared != want || (encoded.policies[0].Reconciled == 1) != want {
				t.Errorf("%s: %+v, %v", c, encoded, err)
			}
		case !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), string(c)):
			t.Errorf("%s: %v, want %v", c, err, ErrPolicy)
		}
	}
}
