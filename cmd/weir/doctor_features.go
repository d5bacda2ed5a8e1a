package main

import "github.com/weir-limiter/weir/pkg/loader"

// kernelFeatures are probes that are alike: the kernel has something or not. Those that it may lack say
// what weir does without.
func kernelFeatures() []probe {
	const boot = "boot a kernel from 5.15 on"
	all := []struct {
		check   string
		ask     func() error
		have    string
		missing finding
	}{
		{"xdp_link", loader.ProbeXDPLink, "an XDP program stays on its interface without a process",
			failure(boot, "no links for XDP programs, which came with 5.9")},
		{"per_cpu_arrays", loader.ProbePerCPUArray, "each CPU counts for itself",
			failure(boot, "no per-CPU arrays, which came with 4.6")},
		{"prefix_tries", loader.ProbeTrie, "sources, allow, deny and bans can be prefixes",
			failure(boot+" with CONFIG_BPF_SYSCALL", "no tries of prefixes (LPM), which came with 4.11")},
		{"coarse_clock", loader.ProbeCoarseClock, "programs can read the clock without asking the hardware",
			failure(boot, "no coarse clock for programs, which came with 5.11")},
		{"ring_buffer", loader.ProbeRingBuffer, "programs can tell of drops as they happen",
			warning(boot, "no ring buffers, which came with 5.8: weir limits all the same, but weir top shows no source")},
		{"tc", loader.ProbeTC, "the hooks tc-ingress and tc-egress can be used",
			warning("boot a kernel with CONFIG_NET_CLS_BPF", "no TC programs: only hook xdp can be used, and nothing is limited on its way out")},
		{"tcx", loader.ProbeTCX, "a TC program stays on its interface by a link, beside those of others",
			warning("boot a kernel from 6.6 on", "no tcx, which came with 6.6: at the TC hooks weir uses a filter of clsact, which any tc command can take off")},
		{"pacing", loader.ProbePacing, `policies with "action: pace" can hold packets back on their way out`,
			warning(boot, `programs can't say when a packet is to leave, which came with 5.0: use "action: drop"`)},
	}
	var probes []probe
	for _, f := range all {
		probes = append(probes, probe{f.check, func(*machine) finding { return feature(f.ask(), f.have, f.missing) }})
	}
	return probes
}
