package loader

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// withBans makes what all programs share, with room for so many bans.
func withBans(t *testing.T, room uint32) *StateDir {
	t.Helper()
	d := lockedForMaps(t)
	spec, err := ObjectsOf(HookXDP)
	if err != nil {
		t.Fatal(err)
	}
	spec.Maps[xdpMapBans4].MaxEntries, spec.Maps[xdpMapBans6].MaxEntries = room, room
	common, err := d.makeShared(spec, 64)
	if err != nil {
		t.Fatal(err)
	}
	common.close()
	return d
}

// mapped opens the maps as a program sees them.
func mapped(t *testing.T, d *StateDir) *banMaps {
	t.Helper()
	m, err := d.openBans()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// counts are what the programs read before they look for a ban.
func (m *banMaps) counts() [2]uint32 {
	return [2]uint32{atomic.LoadUint32(&m.told().Bans[0]), atomic.LoadUint32(&m.told().Bans[1])}
}

// left asks the kernel's trie how long packets of an address are dropped.
func (m *banMaps) left(t *testing.T, address string) time.Duration {
	t.Helper()
	a := netip.MustParseAddr(address)
	trie := m.v6
	if a.Is4() {
		trie = m.v4
	}
	var v xdpBan
	err := trie.Lookup(lpmKey(netip.PrefixFrom(a, a.BitLen())), &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return max(0, time.Duration(v.Until)-sinceBoot())
}

// TestBan plays one history of overlapping bans, and asks the kernel's own lookup after each step.
func TestBan(t *testing.T) {
	d := withBans(t, MaxBans)
	m := mapped(t, d)
	const host, neighbour, stranger, host6 = "203.0.113.7", "203.0.113.8", "198.51.100.1", "2001:db8::7"
	for _, step := range []struct {
		what   string
		do     func() error
		hours  map[string]int // that each address is banned for; 0: it passes
		counts [2]uint32
	}{
		{"nothing", func() error { return nil }, map[string]int{host: 0, host6: 0}, [2]uint32{0, 0}},
		{"a host for an hour", ban(t, d, host+"/32", time.Hour), map[string]int{host: 1, neighbour: 0}, [2]uint32{1, 0}},
		{"its network for longer", ban(t, d, "203.0.113.0/24", 3*time.Hour), map[string]int{host: 3, neighbour: 3, stranger: 0}, [2]uint32{2, 0}},
		{"the half of it for less", ban(t, d, "203.0.113.0/25", 2*time.Hour), map[string]int{host: 3, neighbour: 3}, [2]uint32{3, 0}},
		{"the host for longest", ban(t, d, host+"/32", 5*time.Hour), map[string]int{host: 5, neighbour: 3}, [2]uint32{3, 0}},
		{"an IPv6 network", ban(t, d, "2001:db8::/64", 4*time.Hour), map[string]int{host6: 4, host: 5}, [2]uint32{3, 1}},
		{"the network no more", unban(d, "203.0.113.0/24"), map[string]int{host: 5, neighbour: 2}, [2]uint32{2, 1}},
		{"the host for less", ban(t, d, host+"/32", time.Hour), map[string]int{host: 2, neighbour: 2}, [2]uint32{2, 1}},
		{"the half no more", unban(d, "203.0.113.0/25"), map[string]int{host: 1, neighbour: 0}, [2]uint32{1, 1}},
		{"all of IPv6", ban(t, d, "::/0", 9*time.Hour), map[string]int{host6: 9, "::1": 9, host: 1}, [2]uint32{1, 2}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		for address, hours := range step.hours {
			want := time.Duration(hours) * time.Hour
			if got := m.left(t, address); got > want || got < want-time.Minute {
				t.Errorf("%s: %s is banned for %s, want %s", step.what, address, got, want)
			}
		}
		if got := m.counts(); got != step.counts {
			t.Errorf("%s: the programs are told of %v bans, want %v", step.what, got, step.counts)
		}
	}
	all, err := d.Bans()
	if err != nil || len(all) != 3 || all[0].Prefix.String() != host+"/32" || all[1].Prefix.String() != "::/0" {
		t.Fatalf("Bans() = %v, %v, want the three in order", all, err)
	}
	if narrow := all[2]; narrow.Left > 4*time.Hour || narrow.Effective < 8*time.Hour {
		t.Errorf("%s: left %s, effective %s, want 4h and 9h", narrow.Prefix, narrow.Left, narrow.Effective)
	}
}

func ban(t *testing.T, d *StateDir, prefix string, duration time.Duration) func() error {
	return func() error {
		_, err := d.Ban(netip.MustParsePrefix(prefix), duration)
		return err
	}
}

func unban(d *StateDir, prefix string) func() error {
	return func() error { return d.Unban(netip.MustParsePrefix(prefix)) }
}

func TestBanTellsWhatItReplaced(t *testing.T) {
	d := withBans(t, 8)
	prefix := netip.MustParsePrefix("192.0.2.1/32")
	if was, err := d.Ban(prefix, time.Hour); err != nil || was != 0 {
		t.Errorf("first: replaced %s, %v, want nothing", was, err)
	}
	if was, err := d.Ban(prefix, time.Minute); err != nil || was > time.Hour || was < 59*time.Minute {
		t.Errorf("again: replaced %s, %v, want the hour", was, err)
	}
}

func TestBanErrors(t *testing.T) {
	d := withBans(t, 8)
	host, wide := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.0/24")
	if err := d.Unban(host); !errors.Is(err, ErrNotBanned) {
		t.Errorf("unban of what is not banned: %v, want %v", err, ErrNotBanned)
	}
	if _, err := d.Ban(wide, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := d.Unban(host); !errors.Is(err, ErrNotBanned) || !strings.Contains(err.Error(), "weir unban 192.0.2.0/24") {
		t.Errorf("unban of a part: %v, want %v and the ban that covers it", err, ErrNotBanned)
	}
	for _, c := range []struct {
		prefix   netip.Prefix
		duration time.Duration
		want     string
	}{
		{netip.Prefix{}, time.Hour, "host bits"},
		{netip.MustParsePrefix("192.0.2.1/24"), time.Hour, "host bits"},
		{netip.MustParsePrefix("::ffff:192.0.2.0/120"), time.Hour, "in its own form"},
		{host, 0, "more than 0"},
		{host, MaxBanTime + 1, "at most"},
	} {
		if _, err := d.Ban(c.prefix, c.duration); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ban %s for %s: %v, want %q", c.prefix, c.duration, err, c.want)
		}
	}
}

// TestBansWithoutMaps: while nothing is attached there is nobody to drop a packet.
func TestBansWithoutMaps(t *testing.T) {
	d := lockedForMaps(t)
	_, banErr := d.Ban(netip.MustParsePrefix("192.0.2.1/32"), time.Hour)
	_, listErr := d.Bans()
	_, sweepErr := d.SweepBans()
	for what, err := range map[string]error{"Ban": banErr, "Bans": listErr, "SweepBans": sweepErr, "Unban": unban(d, "192.0.2.1/32")()} {
		if !errors.Is(err, ErrNothingAttached) {
			t.Errorf("%s: %v, want %v", what, err, ErrNothingAttached)
		}
	}
}

// TestBansOfAnotherVersion: maps of another shape are refused, and not written to.
func TestBansOfAnotherVersion(t *testing.T) {
	d := lockedForMaps(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 8, Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(d.pin(xdpMapBans4)); err != nil {
		t.Fatal(err)
	}
	d = withBansBeside(t, d)
	if _, err := d.Bans(); !errors.Is(err, ErrIncompatible) {
		t.Errorf("Bans() of another version: %v, want %v", err, ErrIncompatible)
	}
}

// withBansBeside cleans up the map that a test pinned itself.
func withBansBeside(t *testing.T, d *StateDir) *StateDir {
	t.Cleanup(func() {
		if err := unix.Unlink(d.pin(xdpMapBans4)); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestSweepBans: what is over goes, and makes room for another when there is none.
func TestSweepBans(t *testing.T) {
	d := withBans(t, 2)
	m := mapped(t, d)
	over := func(prefix string) {
		t.Helper()
		b, err := m.family(true)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.add(netip.MustParsePrefix(prefix), 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	over("192.0.2.1/32")
	if all, err := d.Bans(); err != nil || len(all) != 0 {
		t.Errorf("Bans() = %v, %v, want none that is over", all, err)
	}
	if n, err := d.SweepBans(); err != nil || n != 1 || m.counts() != [2]uint32{} {
		t.Errorf("swept %d, %v, told of %v; want 1, and none left", n, err, m.counts())
	}
	over("192.0.2.1/32")
	for _, prefix := range []string{"192.0.2.2/32", "192.0.2.3/32", "192.0.2.3/32"} {
		if err := ban(t, d, prefix, time.Hour)(); err != nil {
			t.Fatalf("%s: %v", prefix, err)
		}
	}
	err := ban(t, d, "192.0.2.4/32", time.Hour)()
	if !errors.Is(err, ErrTooManyBans) || m.left(t, "192.0.2.4") != 0 {
		t.Errorf("one too many: %v, want %v", err, ErrTooManyBans)
	}
	if got := m.counts(); got != [2]uint32{2, 0} {
		t.Errorf("told of %v bans, want 2 and 0", got)
	}
}

// TestBanIsUndone: a change that fails half-way leaves the map as it was.
func TestBanIsUndone(t *testing.T) {
	d := withBans(t, 8)
	m := mapped(t, d)
	if err := ban(t, d, "192.0.2.1/32", time.Hour)(); err != nil {
		t.Fatal(err)
	}
	b, err := m.family(true)
	if err != nil {
		t.Fatal(err)
	}
	readOnly, err := ebpf.LoadPinnedMap(d.pin(xdpMapBans4), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	writable := b.m
	b.m = readOnly
	if err := b.add(netip.MustParsePrefix("192.0.2.0/24"), 0, sinceBoot()+2*time.Hour); !errors.Is(err, unix.EPERM) {
		t.Errorf("add: %v, want EPERM", err)
	}
	b.m = writable
	if got := m.counts(); got != [2]uint32{1, 0} {
		t.Errorf("told of %v bans, want the one from before", got)
	}
	// What was written before the failure is put back.
	if err := b.put(banWrite{netip.MustParsePrefix("192.0.2.1/32"), xdpBan{Until: 1, OwnUntil: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := b.restore([]banWrite{{prefix: netip.MustParsePrefix("192.0.2.1/32")}}); err != nil {
		t.Fatal(err)
	}
	if left := m.left(t, "192.0.2.1"); left < 59*time.Minute {
		t.Errorf("192.0.2.1 is banned for %s after the undo, want an hour", left)
	}
}

// TestManyBans fills the trie: every change reads it, so that has to be quick.
func TestManyBans(t *testing.T) {
	d := withBans(t, MaxBans)
	m := mapped(t, d)
	b, err := m.family(true)
	if err != nil {
		t.Fatal(err)
	}
	var a [4]byte
	for i := range MaxBans - 1 {
		binary.BigEndian.PutUint32(a[:], 0x0a000000+uint32(i))
		prefix := netip.PrefixFrom(netip.AddrFrom4(a), 32)
		w := banWrite{prefix, xdpBan{Until: 1 << 62, OwnUntil: 1 << 62}}
		if err := b.put(w); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	if err := ban(t, d, "192.0.2.1/32", time.Hour)(); err != nil {
		t.Fatal(err)
	}
	t.Logf("a ban beside %d others: %s", MaxBans-1, time.Since(begin))
	begin = time.Now()
	all, err := d.Bans()
	if err != nil || len(all) != MaxBans {
		t.Fatalf("Bans() = %d, %v, want %d", len(all), err, MaxBans)
	}
	t.Logf("listing them: %s", time.Since(begin))
	if got := m.counts(); got != [2]uint32{MaxBans, 0} {
		t.Errorf("told of %v bans, want %d", got, MaxBans)
	}
}
