//go:build amd64 || arm64

package bucket

import "unsafe"

// prefetch asks the processor for a cache line, and does not wait for it. The compiler has an instruction for
// that, which only the runtime may use.
//
//go:noescape
func prefetch(address unsafe.Pointer)

// Prefetch brings the set that hash names near, for a charge that comes soon: a table larger than the caches
// is mostly waited for, and what is done meanwhile costs nothing.
func (t *Table) Prefetch(hash uint64) { prefetch(unsafe.Pointer(t.set(hash))) }
