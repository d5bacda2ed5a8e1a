package limiter

import (
	"hash/maphash"
	"net/netip"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// hasher names buckets. All of it rests on a seed that is drawn with the limiter, so that nobody can choose
// names whose buckets meet in one set of the table.
type hasher struct {
	seed   maphash.Seed
	secret bucket.Secret
}

func newHasher() hasher {
	seed := maphash.MakeSeed()
	return hasher{seed, bucket.Secret{maphash.String(seed, "secret 0"), maphash.String(seed, "secret 1")}}
}

// space keeps the buckets of one policy apart from those of all others.
type space struct {
	seed   maphash.Seed
	offset uint64
	ip     bucket.HashKey
	mask   bucket.Mask
}

// space depends on scope and name alone: a policy that stays keeps its buckets.
func (h hasher) space(scope, name string, ipv4Prefix, ipv6Prefix uint8) space {
	return space{
		seed:   h.seed,
		offset: maphash.String(h.seed, scope+"\x00"+name),
		ip:     bucket.DeriveKey(h.secret, scope, name),
		mask:   bucket.NewMask(ipv4Prefix, ipv6Prefix),
	}
}

func (s *space) text(text string) uint64 { return mix(maphash.String(s.seed, text) ^ s.offset) }

// then joins one more part to the name of a bucket. Each part is hashed by itself, so that no two lists of
// parts are alike because their texts run into one another.
func (s *space) then(hash uint64, text string) uint64 {
	return mix(hash ^ maphash.String(s.seed, text))
}

func (s *space) address(a netip.Addr) uint64 { return s.ip.Hash(s.mask, a) }

// whole is address without the prefixes that share a bucket.
func (s *space) whole(a netip.Addr) uint64 { return s.ip.Hash(wholeAddress, a) }

var wholeAddress = bucket.NewMask(32, 128)

func (s *space) only() uint64 { return mix(s.offset) }

// mix spreads what an exclusive or left in place: the finaliser of MurmurHash3.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
