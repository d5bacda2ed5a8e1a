package loader

import "github.com/cilium/ebpf"

// Objects is the built-in BPF object, for tests that attach a changed one: see [AttachOptions].
func Objects() (*ebpf.CollectionSpec, error) { return loadXdp() }
