//go:build !linux

package limiter

// adviseHuge does nothing here.
func adviseHuge([]byte) {}
