package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/link"

	"github.com/weir-limiter/weir/internal/lab"
)

// ErrNoFirewall says that a limiter of the host's firewall is not to be had here.
var ErrNoFirewall = errors.New("not available")

// ruleset is a limiter of the host's firewall. Its first rule drops what is beyond the limit, its second everything else, so
// that what is admitted costs no more. Both count.
type ruleset struct {
	name    string
	command string
	setUp   [][]string // arguments, one call each; what is after a "<" is the call's input
	list    []string
	counter *regexp.Regexp // matches each rule's count of packets, in the order of the rules
}

// firewallEntries is how many sources the example in nft(8) has room for.
const firewallEntries = 128_000

// nftables is the meter of nft(8), "dynamic sets", at the earliest hook. Its 10 s of timeout are from there, and its words.
func nftables(entries int) ruleset {
	rules := fmt.Sprintf(`table netdev weir_bench {
	set flood { type ipv4_addr; flags dynamic; timeout 10s; size %d; }
	chain ingress {
		type filter hook ingress device "eth0" priority 0; policy accept;
		update @flood { ip saddr limit rate over %d/second burst %d packets } counter drop
		counter drop
	}
}
`, entries, tightLimit, tightBurst)
	return ruleset{
		name: nameNftables, command: "nft",
		setUp:   [][]string{{"-f", "-", "<" + rules}},
		list:    []string{"list", "chain", "netdev", "weir_bench", "ingress"},
		counter: regexp.MustCompile(`counter packets (\d+)`),
	}
}

// hashlimit is that of iptables-extensions(8), at the earliest hook that it has. Without a number of buckets the kernel
// gives it 8,192 at most, with a chain of entries in each; so every source has one of its own.
func hashlimit(buckets, entries int) ruleset {
	chain := []string{"-w", "-t", "raw", "-A", "PREROUTING"}
	rule := func(arguments string) []string { return slices.Concat(chain, strings.Fields(arguments)) }
	return ruleset{
		name: nameHashlimit, command: "iptables",
		setUp: [][]string{
			rule(fmt.Sprintf(`-m hashlimit --hashlimit-name weir_bench --hashlimit-mode srcip --hashlimit-above %d/sec
				--hashlimit-burst %d --hashlimit-htable-size %d --hashlimit-htable-max %d -j DROP`,
				tightLimit, tightBurst, buckets, entries)),
			rule("-j DROP"),
		},
		list:    []string{"-w", "-t", "raw", "-v", "-S", "PREROUTING"},
		counter: regexp.MustCompile(`-c (\d+) \d+ -j DROP`),
	}
}

// firewall is a ruleset in force at the receiving end.
type firewall struct {
	ruleset
	host *lab.Host
	link link.Link
}

// newFirewall puts the ruleset in force. The interface gets a program that lets every frame through, since a veth polls its
// ring only with a program or with GRO, and GRO costs more. It fails with ErrNoFirewall if the command, or what it needs of the
// kernel, is missing.
func newFirewall(h *lab.Host, s *sender, rules ruleset) (limiter, error) {
	if _, err := exec.LookPath(rules.command); err != nil {
		return nil, fmt.Errorf("%w: %s is not installed (scripts/deps.sh installs it on Debian and Ubuntu)", ErrNoFirewall, rules.command)
	}
	f := &firewall{ruleset: rules, host: h}
	for _, arguments := range rules.setUp {
		if _, err := f.run(arguments); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoFirewall, err)
		}
	}
	x := &hooked{}
	err := x.attach(h, s.objects.LetThrough)
	if err != nil {
		return nil, err
	}
	f.link = x.links[0]
	return f, nil
}

// run calls the command inside the host's namespace.
func (f *firewall) run(arguments []string) (string, error) {
	var out, errOut bytes.Buffer
	err := f.host.Do(func() error {
		var input string
		if n := len(arguments) - 1; strings.HasPrefix(arguments[n], "<") {
			arguments, input = arguments[:n], arguments[n][1:]
		}
		cmd := exec.Command(f.command, arguments...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
		return cmd.Run()
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", f.command, err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// counts reads the two rules' counters.
func (f *firewall) counts() (limited, admitted uint64, err error) {
	text, err := f.run(f.list)
	if err != nil {
		return 0, 0, err
	}
	found := f.counter.FindAllStringSubmatch(text, -1)
	if len(found) != 2 {
		return 0, 0, fmt.Errorf("%s lists %d counters, want those of two rules: %s", f.command, len(found), text)
	}
	var n [2]uint64
	for i, match := range found {
		if n[i], err = strconv.ParseUint(match[1], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("read the counters of %s: %w", f.command, err)
		}
	}
	return n[0], n[1], nil
}

// Close takes the program off; the rules end with the namespace.
func (f *firewall) Close() error { return f.link.Close() }
