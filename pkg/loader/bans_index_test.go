package loader

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lookup is what the kernel finds for an address: the longest prefix, and no other.
func (x banIndex) lookup(a netip.Addr) (v xdpBan) {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if v, ok := x[netip.PrefixFrom(a, bits).Masked()]; ok {
			return v
		}
	}
	return xdpBan{}
}

// banned tells what ought to be: whether any ban that covers the address lasts.
func (x banIndex) banned(a netip.Addr, now uint64) bool {
	for prefix, v := range x {
		if prefix.Contains(a) && v.OwnUntil > now {
			return true
		}
	}
	return false
}

// neighbours are sixteen addresses, few enough that random bans overlap all the time.
func neighbours() []netip.Addr {
	var all []netip.Addr
	for i := range 16 {
		all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	return all
}

func drawPrefix(t *rapid.T) netip.Prefix {
	bits := rapid.IntRange(28, 32).Draw(t, "bits")
	return netip.PrefixFrom(rapid.SampledFrom(neighbours()).Draw(t, "address"), bits).Masked()
}

// TestBansNeverOpenAHole plays random changes write by write. After every single one, a packet that is
// banned before and after the change is banned; after the last, just those are that ought to be.
func TestBansNeverOpenAHole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		index := banIndex{}
		var now uint64
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			now += rapid.Uint64Range(0, 5).Draw(t, "passes")
			prefix := drawPrefix(t)
			after := maps.Clone(index)
			var writes []banWrite
			lift := rapid.Bool().Draw(t, "lift")
			if lift {
				writes = index.removing(prefix)
				delete(after, prefix)
			} else {
				until := time.Duration(now) + time.Duration(rapid.Uint64Range(1, 20).Draw(t, "for"))
				writes = index.adding(prefix, until)
				after[prefix] = xdpBan{OwnUntil: uint64(until)}
			}
			before := maps.Clone(index)
			for _, w := range writes {
				index[w.prefix] = w.value
				checkNoHole(t, before, index, after, now)
			}
			if lift {
				delete(index, prefix)
			}
			checkBanned(t, index, after, now)
		}
	})
}

func checkNoHole(t *rapid.T, before, during, after banIndex, now uint64) {
	for _, a := range neighbours() {
		if before.banned(a, now) && after.banned(a, now) && during.lookup(a).Until <= now {
			t.Fatalf("%s may pass while it is banned:\nbefore %v\nafter %v\nnow in the map %v", a, before, after, during)
		}
	}
}

func checkBanned(t *rapid.T, index, want banIndex, now uint64) {
	for _, a := range neighbours() {
		if got := index.lookup(a).Until > now; got != want.banned(a, now) {
			t.Fatalf("%s: banned is %v at %d, by the bans %v and the map %v", a, got, now, want, index)
		}
	}
}

func TestBanIndexFindsWider(t *testing.T) {
	t.Parallel()
	index := banIndex{
		netip.MustParsePrefix("10.0.0.0/8"):  {OwnUntil: 20},
		netip.MustParsePrefix("10.0.0.0/16"): {OwnUntil: 10},
	}
	for _, c := range []struct {
		prefix string
		now    uint64
		want   string
	}{
		{"10.0.0.1/32", 5, "10.0.0.0/16"},
		{"10.0.0.1/32", 10, "10.0.0.0/8"},
		{"10.0.0.0/16", 5, "10.0.0.0/8"},
		{"10.0.0.0/8", 5, ""},
		{"10.0.0.1/32", 20, ""},
		{"192.0.2.1/32", 5, ""},
	} {
		got, ok := index.wider(netip.MustParsePrefix(c.prefix), c.now)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("wider than %s at %d: %s, %v, want %q", c.prefix, c.now, got, ok, c.want)
		}
	}
}

// BenchmarkWideBan is the dearest change: a prefix around as many bans as there can be.
func BenchmarkWideBan(b *testing.B) {
	for _, whole := range []string{"10.0.0.0/8", "2001:db8::/32"} {
		prefix := netip.MustParsePrefix(whole)
		index := banIndex{}
		for i := range MaxBans {
			a := prefix.Addr().AsSlice()
			a[len(a)-2], a[len(a)-1] = byte(i>>8), byte(i)
			addr, _ := netip.AddrFromSlice(a)
			index[netip.PrefixFrom(addr, addr.BitLen())] = xdpBan{Until: 10, OwnUntil: 10}
		}
		b.Run(fmt.Sprint(prefix.Bits()), func(b *testing.B) {
			for b.Loop() {
				if n := len(index.adding(prefix, 20)); n != MaxBans+1 {
					b.Fatalf("%d writes", n)
				}
			}
		})
	}
}
