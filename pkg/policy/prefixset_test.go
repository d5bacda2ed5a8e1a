package policy

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPrefixSet: few or many, a set says what its prefixes say one by one.
func TestPrefixSet(t *testing.T) {
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		bytes := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 128, 255}), 4, 4).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "IPv6") {
			bytes = append(bytes, make([]byte, 12)...)
		}
		a, _ := netip.AddrFromSlice(bytes)
		return a
	})
	rapid.Check(t, func(t *rapid.T) {
		prefixes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			p, _ := address.Draw(t, "address").Prefix(rapid.IntRange(0, 32).Draw(t, "bits"))
			return p
		}), 0, 3*fewPrefixes).Draw(t, "prefixes")
		s := NewPrefixSet(prefixes)
		if s.Empty() != (len(prefixes) == 0) {
			t.Fatalf("of %v: empty is %v", prefixes, s.Empty())
		}
		for _, a := range rapid.SliceOfN(address, 1, 8).Draw(t, "addresses") {
			want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
			if got := s.Contains(a); got != want {
				t.Fatalf("%v in %v: got %v, want %v", a, prefixes, got, want)
			}
		}
		if s.Contains(netip.Addr{}) {
			t.Fatal("no address is in the set")
		}
	})
}
