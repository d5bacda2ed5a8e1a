package limiter

import (
	"unsafe"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// tableMemory is memory whose sets are one cache line each, in large pages if the system has some: a table that
// no cache holds is else waited for twice, for the line and for the address of its page.
func tableMemory(size int) []byte {
	mem := make([]byte, size+bucket.SetSize)
	skip := -address(mem) & (bucket.SetSize - 1)
	mem = mem[skip:][:size:size]
	adviseHuge(mem)
	return mem
}

func address(mem []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(mem))) }
