package bucket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// Secret is what keeps the hash unpredictable to those who choose addresses. It is drawn when a
// table is made, and lives as long as the table.
type Secret [2]uint64

// HashKey selects one policy's hash function. Its layout is that of struct hash_key.
type HashKey struct {
	Offset     [2]uint64 // for IPv4 and IPv6
	Multiplier [2]uint64 // odd
}

// DeriveKey makes the key of a policy from the table's secret, by HMAC-SHA-256 over its scope and
// name. A policy so keeps its buckets as long as it keeps its name, whatever comes before or after
// it in the file.
func DeriveKey(secret Secret, scope, policy string) HashKey {
	var key [16]byte
	binary.BigEndian.PutUint64(key[0:], secret[0])
	binary.BigEndian.PutUint64(key[8:], secret[1])
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("weir bucket key 1\x00" + scope + "\x00" + policy))
	sum := mac.Sum(nil)
	word := func(i int) uint64 { return binary.BigEndian.Uint64(sum[8*i:]) }
	return HashKey{
		Offset:     [2]uint64{word(0), word(1)},
		Multiplier: [2]uint64{word(2) | 1, word(3) | 1},
	}
}

// HashEndpoint names the bucket of a protocol and port.
func (k *HashKey) HashEndpoint(protocol uint8, port uint16) uint64 {
	return k.mix(k.Offset[0] ^ (uint64(protocol)<<16 | uint64(port)))
}

// HashGlobal names the one bucket of a policy that has no more.
func (k *HashKey) HashGlobal() uint64 { return k.mix(k.Offset[0]) }

func (k *HashKey) mix(word uint64) uint64 {
	word *= k.Multiplier[0]
	word ^= word >> 32
	word *= k.Multiplier[1]
	word ^= word >> 32
	return word
}

// Mask says which bits of a source address name a bucket. Addresses are numbers in host order.
type Mask struct {
	IPv4 uint32
	IPv6 [2]uint64 // high half first
}

// NewMask makes the mask of two prefix lengths, 0 to 32 and 0 to 128; longer ones count as those.
func NewMask(ipv4Prefix, ipv6Prefix uint8) Mask {
	v6 := uint(min(ipv6Prefix, 128))
	return Mask{
		IPv4: ^uint32(0) << (32 - uint(min(ipv4Prefix, 32))),
		IPv6: [2]uint64{leading(min(v6, 64)), leading(v6 - min(v6, 64))},
	}
}

// leading has the n highest of 64 bits set. In Go a shift by 64 is 0.
func leading(n uint) uint64 { return ^uint64(0) << (64 - n) }

// Hash names the bucket of a source: the table's set and the fingerprint within it. An IPv4 address
// mapped into IPv6 counts as the IPv4 address that it is.
func (k *HashKey) Hash(m Mask, source netip.Addr) uint64 {
	if source = source.Unmap(); source.Is4() {
		a := source.As4()
		return k.mix(k.Offset[0] ^ uint64(binary.BigEndian.Uint32(a[:])&m.IPv4))
	}
	a := source.As16()
	hash := k.mix(k.Offset[1] ^ binary.BigEndian.Uint64(a[:8])&m.IPv6[0])
	if m.IPv6[1] == 0 {
		return hash
	}
	return k.mix(hash ^ binary.BigEndian.Uint64(a[8:])&m.IPv6[1])
}
