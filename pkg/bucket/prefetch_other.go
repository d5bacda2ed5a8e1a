//go:build !amd64 && !arm64

package bucket

// Prefetch does nothing on this architecture.
func (t *Table) Prefetch(uint64) {}
