package bucket

import (
	"math/bits"
	"testing"
)

// sipHash13 is what the table's hash was chosen over: docs/adr/0003-keyed-hash.md. It hashes one word
// of 4 bytes, an IPv4 address.
func sipHash13(key [2]uint64, word uint32) uint64 {
	v0, v1 := key[0]^0x736f6d6570736575, key[1]^0x646f72616e646f6d
	v2, v3 := key[0]^0x6c7967656e657261, key[1]^0x7465646279746573
	round := func() {
		v0 += v1
		v2 += v3
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v1
		v0 += v3
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 = bits.RotateLeft64(v2, 32)
	}
	last := 4<<56 | uint64(word)
	v3 ^= last
	round()
	v0 ^= last
	v2 ^= 0xff
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3
}

// The reference vector of the kernel's hsiphash, which is SipHash-1-3 on 64-bit machines, for the
// four bytes 0, 1, 2, 3.
func TestSipHash13(t *testing.T) {
	if got := sipHash13([2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}, 0x03020100); got != 0xcf75576088d38328 {
		t.Errorf("sipHash13 = %#x, want 0xcf75576088d38328", got)
	}
}

func BenchmarkHash(b *testing.B) {
	key := DeriveKey(Secret{1, 2}, "per_ip", "bench")
	b.Run("multiply-shift", func(b *testing.B) {
		x := uint64(1)
		for b.Loop() {
			x = key.mix(key.Offset[0] ^ x) // each on the one before, so that the latency shows
		}
		sink = x
	})
	b.Run("siphash-1-3", func(b *testing.B) {
		x := uint64(1)
		for b.Loop() {
			x = sipHash13(key.Offset, uint32(x))
		}
		sink = x
	})
}

// sink keeps the compiler from leaving the benchmark's work out.
var sink uint64
