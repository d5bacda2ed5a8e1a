package limiter

import (
	"os"
	"syscall"
)

// adviseHuge asks for large pages, as many as fit. A kernel that has none to give says so, and nothing is lost.
func adviseHuge(mem []byte) {
	page := uintptr(os.Getpagesize())
	if skip := -address(mem) & (page - 1); int(skip) < len(mem) {
		_ = syscall.Madvise(mem[skip:], syscall.MADV_HUGEPAGE)
	}
}
