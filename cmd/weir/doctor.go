package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
)

func newDoctorCommand(e *env) *cobra.Command {
	var interfaces []string
	var file, address string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell whether this machine has what weir needs, and how to mend what it has not",
		Long: `Look at the kernel, the privileges, the bpf file system, the state directory, the daemon and the network
interfaces with their drivers, and tell what works, what does not, what weir does without it, and how to
mend it. Each feature is asked of the kernel itself. Nothing is changed. It fails if something is
missing that weir can't do without in the kernel. To limit requests alone it needs nothing of that, and a
daemon that does is no reason to fail.

Without --interface it looks at every Ethernet interface that is up, and finds nothing on one to fail for.

With --config it looks at the Redis of that file too, with --redis at the one of a URL: whether it answers, to
whom, what the user may not do, what it does when it is full, and how long it takes. It writes a key of its
own there, and removes it. A password in a URL can be seen by others on this machine; in a file it can't.`,
		Example: "  weir doctor\n  weir doctor --interface eth0\n  weir doctor -c /etc/weir/weir.yaml\n  weir doctor --redis redis://127.0.0.1:6379\n  weir doctor -o json | jq '.checks[] | select(.status != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" && cmd.Flags().Changed("redis") { // a script's variable that is not set
				return usagef("--redis: want a URL, such as redis://127.0.0.1:6379")
			}
			redis, err := readRedis(file, address)
			if err != nil {
				return err
			}
			m := newMachine(e)
			switch {
			case redis != nil:
				m.redis = func() []finding { return examineRedis(cmd.Context(), redis) }
			case file != "":
				none := good("none in %s: this node limits for itself", file)
				none.Check = "redis"
				m.redis = func() []finding { return []finding{none} }
			}
			m.daemon = func() (*client, error) { return e.daemon(cmd.Context()) }
			return doctor(e, m, interfaces)
		},
	}
	cmd.Flags().StringSliceVar(&interfaces, "interface", nil, "interface that weir is to be attached to; may be repeated")
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file whose Redis is to be looked at")
	cmd.Flags().StringVar(&address, "redis", "", "URL of a Redis to look at, such as redis://127.0.0.1:6379")
	completeWith(cmd, "redis")
	_ = cmd.RegisterFlagCompletionFunc("interface", completeInterface) // fails only for a flag that is not there
	return cmd
}

// grade is how serious a finding is.
type grade string

const (
	gradeOK   grade = "ok"
	gradeWarn grade = "warn" // weir works, but not as well as it could; or it could not be found out
	gradeFail grade = "fail" // weir can't work
)

// finding is what one probe found. Scripts read it as JSON: add fields and checks, rename none.
type finding struct {
	Check     string `json:"check"`
	Interface string `json:"interface,omitempty"`
	Server    string `json:"server,omitempty"` // of a Redis Cluster
	Grade     grade  `json:"status"`
	Found     string `json:"found"`
	Mend      string `json:"mend,omitempty"`
}

func good(format string, args ...any) finding {
	return finding{Grade: gradeOK, Found: fmt.Sprintf(format, args...)}
}

func warning(mend, format string, args ...any) finding {
	return finding{Grade: gradeWarn, Mend: mend, Found: fmt.Sprintf(format, args...)}
}

func failure(mend, format string, args ...any) finding {
	return finding{Grade: gradeFail, Mend: mend, Found: fmt.Sprintf(format, args...)}
}

// machine is what the probes look at, so that a test can give them another one.
type machine struct {
	release  string // of the kernel
	uid      int
	readFile func(string) ([]byte, error)

	stateDir    string
	state       *loader.StateDir // nil if there is none
	attachments []loader.Attachment
	stateErr    error // why there are no attachments

	runDir string
	daemon func() (*client, error) // of that directory; nil if none answers

	redis func() []finding // nil: none is to be looked at
}

func newMachine(e *env) *machine {
	return &machine{release: kernelRelease(), uid: os.Geteuid(), readFile: os.ReadFile, stateDir: e.stateDir, runDir: e.runDir}
}

// probe is one question to the machine. Its name is what scripts know it by.
type probe struct {
	check string
	look  func(*machine) finding
}

func probes() []probe {
	return slices.Concat(
		[]probe{
			{"linux", probeLinux},
			{"privileges", probePrivileges},
			{"bpffs", probeBPFFS},
			{"xdp", probeXDP},
			{"mappable_arrays", probeMappable},
			{"compare_and_swap", probeAtomics},
			{"program", probeProgram},
			{"jit", probeJIT},
			{"multi_buffer", probeMultiBuffer},
		},
		kernelFeatures(),
		[]probe{
			{"btf", probeBTF},
			{"state_directory", probeState},
			{"lock", probeLock},
			{"daemon", probeDaemon},
		})
}

// doctorView is the JSON of weir doctor.
type doctorView struct {
	OK     bool      `json:"ok"`
	Checks []finding `json:"checks"`
}

func doctor(e *env, m *machine, interfaces []string) error {
	v := doctorView{Checks: []finding{}}
	err := e.inspect(func(d *loader.StateDir, all []loader.Attachment) error {
		m.state, m.attachments = d, all
		v.Checks = m.examine(interfaces)
		return nil
	})
	if err != nil {
		m.stateErr = err
		v.Checks = m.examine(interfaces)
	}
	failed := 0
	for _, f := range v.Checks {
		if f.Grade == gradeFail {
			failed++
		}
	}
	v.OK = failed == 0
	if err := e.show(v, func(p *page) { writeFindings(p, &v) }); err != nil || v.OK {
		return err
	}
	return fmt.Errorf("%s failed: mend what is marked so, and ask again", plural(failed, "check", "checks"))
}

func (m *machine) examine(interfaces []string) []finding {
	var all []finding
	for _, probe := range probes() {
		f := probe.look(m)
		f.Check = probe.check
		all = append(all, f)
	}
	all = append(all, m.examineLinks(interfaces)...)
	if len(interfaces) == 0 && m.requestsOnly() {
		for i := range all {
			if all[i].Grade == gradeFail {
				all[i].Grade = gradeWarn
				all[i].Found += " (the daemon needs none of it: it limits requests alone)"
			}
		}
	}
	if m.redis != nil {
		all = append(all, m.redis()...)
	}
	return all
}

// requestsOnly tells whether the daemon that answers has nothing to do with the kernel.
func (m *machine) requestsOnly() bool {
	c, err := m.daemon()
	if err != nil || c == nil {
		return false
	}
	state, err := c.state(context.Background())
	return err == nil && state.RequestsOnly
}

func writeFindings(p *page, v *doctorView) {
	g := grid{columns: columns("", "CHECK", "FOUND")}
	for _, f := range v.Checks {
		name := f.Check
		for _, of := range []string{f.Interface, f.Server} {
			if of != "" {
				name += " " + of
			}
		}
		g.add(gradeCell(f.Grade), text(name), text(f.Found))
		if f.Mend != "" {
			g.add(text(""), text(""), cell{"mend: " + f.Mend, bold})
		}
	}
	g.write(p)
	if v.OK {
		p.printf("\nthis machine has what weir needs\n")
		return
	}
	failed := func(ofRedis bool) bool {
		return slices.ContainsFunc(v.Checks, func(f finding) bool {
			return f.Grade == gradeFail && strings.HasPrefix(f.Check, "redis") == ofRedis
		})
	}
	if failed(false) { // what is wrong with Redis concerns requests as well
		except := ""
		if failed(true) {
			except = " but Redis"
		}
		p.printf("\nto limit requests alone, with a file of policies of layer l7 and no interfaces, weir run needs none of what failed%s\n", except)
	}
}

func gradeCell(g grade) cell {
	return cell{string(g), map[grade]style{gradeOK: green, gradeWarn: yellow, gradeFail: red}[g]}
}

// probeState tells what is attached, and whether it can be read.
func probeState(m *machine) finding {
	if errors.Is(m.stateErr, loader.ErrNoBPFFS) {
		return good("none yet")
	}
	if m.stateErr != nil {
		return unlessDenied(m.stateErr, failure("what is pinned is of no use like this: weir detach --all", "%v", m.stateErr))
	}
	if len(m.attachments) == 0 {
		return good("nothing is attached")
	}
	f := finding{Grade: gradeOK}
	for i := range m.attachments {
		a := &m.attachments[i]
		if f.Found != "" {
			f.Found += "; "
		}
		f.Found += fmt.Sprintf("%s: %s, %s", place(a), a.State, plural(len(a.Policies), "policy", "policies"))
		if a.State == loader.StateVanished {
			f.Grade = gradeWarn
			f.Mend = "weir detach " + a.Interface + " removes what is left of it"
		}
	}
	return f
}

func probeLock(m *machine) finding {
	switch {
	case errors.Is(m.stateErr, os.ErrPermission):
		return unknown(m.stateErr)
	case m.state == nil:
		return good("free")
	}
	if holder := m.state.LockHolder(); holder != "" {
		return good("held by %s", holder)
	}
	return good("free")
}

// probeDaemon tells whether weir run answers on its socket, and what it says.
func probeDaemon(m *machine) finding {
	c, err := m.daemon()
	switch {
	case err != nil:
		return unlessDenied(err, warning("restart weir run, and see its log", "%v", err))
	case c == nil:
		return good("none answers on %s", socketPath(m.runDir))
	}
	var r daemonState
	if err := c.ask(context.Background(), http.MethodGet, "/readyz", nil, &r); err != nil {
		return warning("restart weir run, and see its log", "%v", err)
	}
	switch {
	case !r.Ready:
		return warning("weir status tells more", "answers on %s, and is not ready: %s", c.socket, r.missingText())
	case r.Failed != nil:
		return warning("mend the file: what was in force still is", "answers on %s, and could not reload the file: %s", c.socket, r.Failed.Errors[0])
	case len(r.Warnings) > 0:
		return warning("see the log of weir run", "answers on %s: %s", c.socket, strings.Join(r.Warnings, "; "))
	}
	if r.RequestsOnly {
		return good("answers on %s, and limits requests alone", c.socket)
	}
	return good("answers on %s", c.socket)
}
