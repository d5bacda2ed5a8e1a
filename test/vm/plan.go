package main

import "time"

// machine is one boot. All of it is known on both sides: the host writes it into the initramfs.
type machine struct {
	Kernel  string // a directory of build/kernels
	CPUs    int
	Suites  []suite
	Timeout time.Duration // for all of it; the tests are told of less, so that they can say where they hang
}

// suite is the tests of a package that a machine runs.
type suite struct {
	Package string // its directory in the tree
	Run     string // pattern of the tests to run; empty: all, and it must be some
	Skip    string // pattern of tests to leave out
	Why     string // why those
}

// machines are the kernels that weir is tested on beside the one of the machine that builds it.
var machines = []machine{
	{Kernel: "6.1", CPUs: 2, Suites: everything, Timeout: 5 * time.Minute},
	{Kernel: "6.12", CPUs: 2, Suites: everything, Timeout: 5 * time.Minute},
	{Kernel: "6.12", CPUs: 4, Suites: severalCPUs, Timeout: 5 * time.Minute},
}

var everything = []suite{
	{Package: "pkg/loader"},
	{Package: "test/progrun"},
	{Package: "cmd/weir"},
	{Package: "internal/bench"},
	{Package: "internal/lab"},
	{Package: "test/netns"},
}

var severalCPUs = []suite{
	{Package: "test/progrun", Run: "CPUs"},
	{Package: "test/netns", Run: "CPUs"},
}

// choose narrows machines down to a release, and their suites to a pattern; empty strings choose all.
func choose(all []machine, kernel, pattern string) (chosen []machine) {
	for _, m := range all {
		if kernel != "" && m.Kernel != kernel {
			continue
		}
		if pattern != "" {
			narrow := make([]suite, len(m.Suites))
			for i, s := range m.Suites {
				s.Run = pattern
				narrow[i] = s
			}
			m.Suites = narrow
		}
		chosen = append(chosen, m)
	}
	return chosen
}
