package main

import (
	"slices"
	"strings"
	"time"
)

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
	Quick   string // the same of -quick, which is what make test runs; empty: none of the suite
	LeftOut []leftOut
}

// leftOut is what a machine can't run, so that nothing is skipped in silence.
type leftOut struct{ Pattern, Reason string }

// skip is the pattern of all that is left out.
func (s *suite) skip() string {
	patterns := make([]string, len(s.LeftOut))
	for i, l := range s.LeftOut {
		patterns[i] = l.Pattern
	}
	return strings.Join(patterns, "|")
}

// machines are the kernels that weir is tested on beside the one of the machine that builds it.
var machines = []machine{
	{Kernel: "6.1", CPUs: 1, Suites: onEveryKernel, Timeout: 8 * time.Minute},
	{Kernel: "6.12", CPUs: 1, Suites: onEveryKernel, Timeout: 8 * time.Minute},
	{Kernel: "6.12", CPUs: 4, Suites: onSeveralCPUs, Timeout: 4 * time.Minute},
}

// onEveryKernel is what depends on the kernel: that the verifier takes the programs, the packet tables and the
// differential test by BPF_PROG_TEST_RUN, attaching in every way, and real packets at each hook. What is the same on
// every kernel is tested on that of the machine that builds weir: the life cycle's every step, floods, the daemon.
var onEveryKernel = []suite{
	{Package: "pkg/loader", Quick: "^(TestVerifierCost|TestHotSources|TestStateWithout|TestThreeHooks|TestOthersAtATCHookStay|TestFiltersIn|TestWhoMade|TestJoinedPackets|TestProbe|TestEventsControl)", LeftOut: []leftOut{
		{"TestKilledAtEveryStep|TestEveryStepOf|TestWhatCantBeLoadedChangesNothing|TestLostRacesForAPlace",
			"dozens of changes each, which take minutes in software emulation, of what is the same on every kernel"},
		{"TestManyBans", "as many bans as there can be, of which the kernel matters to the first only"},
		{"TestVerifierLeaves", "it compares programs, and not kernels"},
		{"TestApplyChangesEverythingAttached", "a dozen loads, for what TestThreeHooksOfTwoInterfaces shows as well"},
	}},
	{Package: "test/progrun", Quick: "^(TestVectors|TestDifferential$|TestTCFragments|TestTCJoinedPacketsAreCharged|TestUnparsed|TestPaceNeverDepartsEarly)", LeftOut: []leftOut{
		{"FuzzDifferential", "it begins where TestDifferential ends"},
		{"TestAllCPUs", "another machine has several"},
	}},
	{Package: "cmd/weir", Run: "^(TestAttach|TestStatus|TestBanCommands|TestBucket|TestMaps$|TestDoctor$|TestUnmet)"},
	{Package: "test/netns", Quick: "^(TestEveryHook|TestTCIngressLimits|TestTCEgressLimits|TestPaceGives|TestPaceWithFQ$)", Run: "^(TestTC|TestPace|TestEveryHook|TestUnparsed|TestShadow|TestJumbo|TestAuto|TestABanEnds|TestTheLists|" +
		"TestAVanished|TestAnotherProgram|TestDetachLeaves)", LeftOut: []leftOut{
		{"TestTCReadsHeadersInPages", "half a minute, for what test/progrun shows on this kernel as well"},
	}},
}

// onSeveralCPUs is what several CPUs could break: any test with CPUs in its name.
var onSeveralCPUs = []suite{
	{Package: "pkg/loader", Run: "CPUs", Quick: "CPUs"},
	{Package: "test/progrun", Run: "CPUs", Quick: "CPUs"},
	{Package: "test/netns", Run: "CPUs", Quick: "CPUs", LeftOut: []leftOut{
		{"TestTwoCPUsShareOneBucket", "its flood is to exceed a limit that a sender in software emulation does not reach"},
	}},
}

// quick leaves of each machine what breaks first on another kernel: loading, attaching in every way, one test of
// each kind of packet. All of it takes some five minutes in software emulation, and this less than two.
func quick(all []machine) []machine {
	short := slices.Clone(all)
	for i := range short {
		m := &short[i]
		m.Suites = slices.DeleteFunc(slices.Clone(m.Suites), func(s suite) bool { return s.Quick == "" })
		for j := range m.Suites {
			m.Suites[j].Run = m.Suites[j].Quick
		}
	}
	return short
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
