package progrun

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
)

// choices are what a scenario is made of: the fuzzer's bytes, and when they have run out, numbers that follow
// from them. The same bytes, or the same seed, so make the same scenario.
type choices struct {
	bytes []byte
	rest  *rand.Rand
}

func choicesOfSeed(seed uint64) *choices {
	return &choices{rest: rand.New(rand.NewPCG(seed, 0))}
}

func choicesOfBytes(b []byte) *choices {
	sum := fnv.New64a()
	sum.Write(b)
	return &choices{bytes: b, rest: rand.New(rand.NewPCG(sum.Sum64(), 1))}
}

// below is a number from 0 on, less than n. The fuzzer's bytes decide about small ones one by one.
func (c *choices) below(n int) int {
	if len(c.bytes) == 0 || n <= 1 {
		return c.rest.IntN(n)
	}
	if n <= 256 {
		b := c.bytes[0]
		c.bytes = c.bytes[1:]
		return int(b) % n
	}
	return int(c.word() % uint64(n))
}

// word is any number.
func (c *choices) word() uint64 {
	if len(c.bytes) < 8 {
		return c.rest.Uint64()
	}
	w := binary.BigEndian.Uint64(c.bytes)
	c.bytes = c.bytes[8:]
	return w
}

// oneIn is true once in n times.
func (c *choices) oneIn(n int) bool { return c.below(n) == n-1 }

func pick[T any](c *choices, from []T) T { return from[c.below(len(from))] }

// some are up to most of a list, in any order, none twice.
func some[T any](c *choices, from []T, most int) []T {
	from = append([]T(nil), from...)
	n := c.below(min(most, len(from)) + 1)
	for i := range n {
		j := i + c.below(len(from)-i)
		from[i], from[j] = from[j], from[i]
	}
	return from[:n]
}
