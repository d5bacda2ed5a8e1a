package privilege

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Need is a capability that the daemon uses.
type Need struct {
	// Name is what capabilities(7) calls it.
	Name string
	// Why says what it is used for.
	Why string
	// StartUp marks what is used until start-up is done, and only on some machines: the daemon tries
	// to start without it.
	StartUp bool

	number int
}

// Needs lists every capability that the daemon uses. Those without StartUp it uses as long as it runs.
func Needs() []Need {
	return []Need{
		{
			Name: "CAP_BPF", number: unix.CAP_BPF,
			Why: "to load programs, make maps and open pins",
		},
		{
			Name: "CAP_NET_ADMIN", number: unix.CAP_NET_ADMIN,
			Why: "to load programs for network interfaces and attach them",
		},
		{
			// With CAP_BPF alone the kernel takes the program's author for an attacker. It refuses to
			// compare a pointer that a lookup gave ("pointer comparison prohibited"), and would guard
			// every access to a map against speculation, at a cost for each packet.
			Name: "CAP_PERFMON", number: unix.CAP_PERFMON,
			Why: "to load programs that compare pointers",
		},
		{
			Name: "CAP_SYS_ADMIN", number: unix.CAP_SYS_ADMIN, StartUp: true,
			Why: "to mount a bpf file system where there is none, and to name the program of somebody else that is in the way",
		},
	}
}

// kept is the set that remains after start-up, a bit for each capability.
func kept() uint64 {
	var set uint64
	for _, n := range Needs() {
		if !n.StartUp {
			set |= 1 << n.number
		}
	}
	return set
}

// Check fails if this process lacks a capability that the daemon can't do without.
func Check() error {
	state, err := get()
	if err != nil {
		return err
	}
	return check(state.effective)
}

func check(effective uint64) error {
	var missing []string
	for _, n := range Needs() {
		if !n.StartUp && effective&(1<<n.number) == 0 {
			missing = append(missing, fmt.Sprintf("%s (%s)", n.Name, n.Why))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("this process lacks %s: run it as root, or with these capabilities", strings.Join(missing, ", "))
}
