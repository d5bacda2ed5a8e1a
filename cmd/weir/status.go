package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newStatusCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what weir is attached to, what it does there, and how full its table is",
		Long: `Show every interface that weir is attached to: hook, mode, program, policies, lists and bans and what they
did to packets, and the table of buckets that all interfaces share. It reads the kernel, and needs no daemon; if one
answers, it shows whether its file is what is in force, what its policies of layer l7 did to requests, and how it
stands with the nodes that it shares limits with.

An entry of the table is claimed once a source was given it, and owing while its bucket is not full:
only owing entries are missed when they are evicted. Pressure counts the packets that found no entry
but owing ones.`,
		Example: "  weir status\n  weir status -o json | jq '.attachments[].policies[] | {name, counters}'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			daemon := askDaemon(cmd.Context(), e)
			err := e.inspect(func(d *loader.StateDir, all []loader.Attachment) error { return status(e, d, all, daemon) })
			if kernelHidden(err) && daemon != nil && daemon.Error == "" {
				daemon.KernelError = err.Error()
				return status(e, nil, nil, daemon)
			}
			return err
		},
	}
}

// kernelHidden tells that err says only that the kernel's state can't be looked at from here: who may ask the daemon
// need not be root, nor have a bpf file system.
func kernelHidden(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, loader.ErrNoBPFFS)
}

// inspect calls look with what is attached. Nothing is no error: all is empty then, and d may be nil.
func (e *env) inspect(look func(d *loader.StateDir, all []loader.Attachment) error) error {
	d, err := e.open()
	if errors.Is(err, loader.ErrNothingAttached) {
		if _, err := os.Stat(e.stateDir); errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("open state directory: %w (needs root)", err)
		}
		return look(nil, nil)
	}
	if err != nil {
		return err
	}
	all, err := d.Attachments()
	if err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		return errors.Join(err, d.Close())
	}
	return errors.Join(look(d, all), d.Close())
}

// statusView is the JSON of weir status. Scripts read it: add fields, rename none.
type statusView struct {
	StateDir    string           `json:"state_dir"`
	Attachments []attachmentView `json:"attachments"`
	Table       *tableView       `json:"table"`  // null if nothing is attached
	Bans        *banCountsView   `json:"bans"`   // null if nothing is attached
	Daemon      *daemonView      `json:"daemon"` // null if none answers
}

// banCountsView is how many bans are in force.
type banCountsView struct {
	IPv4 int `json:"ipv4"`
	IPv6 int `json:"ipv6"`
}

func (b *banCountsView) String() string {
	if b.IPv4+b.IPv6 == 0 {
		return "none"
	}
	return fmt.Sprintf("%s IPv4, %s IPv6 (weir bans lists them)", thousands(uint64(b.IPv4)), thousands(uint64(b.IPv6)))
}

func countBans(d *loader.StateDir) (*banCountsView, error) {
	n, err := d.CountBans()
	return &banCountsView{n.IPv4, n.IPv6}, err
}

// tableView is how full the table of buckets is.
type tableView struct {
	Capacity int    `json:"capacity"`
	Claimed  int    `json:"claimed"`
	Owing    int    `json:"owing"`
	Memory   uint64 `json:"memory_bytes"`
	Pressure uint64 `json:"pressure"`
}

func status(e *env, d *loader.StateDir, all []loader.Attachment, daemon *daemonView) error {
	v := statusView{StateDir: e.stateDir, Attachments: []attachmentView{}, Daemon: daemon}
	for i := range all {
		v.Attachments = append(v.Attachments, attachmentJSON(&all[i]))
	}
	if len(all) > 0 {
		table, err := readTable(d, all)
		if err != nil {
			return err
		}
		v.Table = table
		if v.Bans, err = countBans(d); err != nil {
			return err
		}
	}
	return e.show(v, func(p *page) {
		switch {
		case daemon != nil && daemon.KernelError != "":
			p.printf("%s\n", p.paint(yellow, "nothing of the kernel is known: "+daemon.KernelError))
		case len(all) == 0 && daemon != nil && daemon.RequestsOnly:
			p.printf("nothing is attached: weir run limits requests alone\n")
		case len(all) == 0:
			writeNothing(p, e)
		}
		for i := range all {
			writeAttachment(p, &all[i])
		}
		if len(all) > 0 {
			writeTable(p, v.Table)
			p.printf("\n%s  %s\n", p.paint(bold, "bans"), v.Bans)
		}
		writeDaemon(p, v.Daemon)
	})
}

func writeNothing(p *page, e *env) {
	p.printf("nothing is attached (state directory %s)\nbegin with: weir attach IFACE -c FILE\n", e.stateDir)
}

func readTable(d *loader.StateDir, all []loader.Attachment) (*tableView, error) {
	buckets, err := d.OpenBuckets()
	if err != nil {
		return nil, err
	}
	o := buckets.Occupancy(loader.Now())
	v := &tableView{
		Capacity: o.Capacity, Claimed: o.Claimed, Owing: o.Owing,
		Memory: uint64(buckets.Sets()) * bucket.SetSize,
	}
	for _, a := range all {
		v.Pressure += a.Counters.Pressure
	}
	return v, buckets.Close()
}

// burst says what its number counts, unless that is packets.
func burst(p policy.Policy) string {
	if p.Unit == policy.UnitBytes {
		return thousands(p.Burst) + " B"
	}
	return thousands(p.Burst)
}

// alarm is a number that stands out as soon as there is one.
func alarm(n uint64, s style) cell {
	c := number(n)
	if n > 0 {
		c.style = s
	}
	return c
}

func writeTable(p *page, t *tableView) {
	p.printf("%s  %s entries, %s, for all interfaces\n", p.paint(bold, "table"), thousands(uint64(t.Capacity)), memorySize(t.Memory))
	writeOccupancy(p, t.Claimed, t.Owing, t.Capacity, t.Pressure, "packets", "table.entries")
}

// writeOccupancy shows how full a table is: what claims its entries, and which field of the file sizes it.
func writeOccupancy(p *page, claimed, owing, capacity int, pressure uint64, whats, field string) {
	g := grid{indent: "  ", columns: columns("", ">", "")}
	g.add(cell{"claimed", faint}, number(uint64(claimed)), cell{percent(claimed, capacity), faint})
	g.add(cell{"owing", faint}, number(uint64(owing)), cell{percent(owing, capacity), faint})
	note := cell{whats + " that found only owing entries", faint}
	if pressure > 0 {
		note = cell{whats + " found only owing entries: raise " + field, yellow}
	}
	g.add(cell{"pressure", faint}, alarm(pressure, yellow), note)
	g.write(p)
}
