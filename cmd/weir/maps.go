package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
)

// mapDump shows what is in one map.
type mapDump struct {
	name string // of its pin
	show func(e *env, d *loader.StateDir, limit int) error
}

func mapDumps() []mapDump {
	return []mapDump{
		{"table", dumpTable},
		{"identity", dumpIdentity},
		{"constants", dumpConstants},
		{"policy_stats", dumpPolicyStats},
		{"interface_stats", dumpInterfaceStats},
	}
}

func newMapsCommand(e *env) *cobra.Command {
	var limit int
	var names []string
	for _, dump := range mapDumps() {
		names = append(names, dump.name)
	}
	cmd := &cobra.Command{
		Use:   "maps [NAME]",
		Short: "List the pinned BPF maps, or dump one readably",
		Long: `List the BPF maps that weir has pinned, or dump what is in one of them:

  table            the sources that owe most: set, way, fingerprint, tokens used, debt
  identity         the version of the layout; the secret of the hash stays in the kernel
  constants        the policies as the program computes with them, for each interface
  policy_stats     packets and bytes by policy and CPU
  interface_stats  what belongs to no policy, by CPU

The debt of an entry is the time until its bucket is full. Which address a fingerprint belongs to
can't be told; "weir bucket get" finds the entry of an address.`,
		Example:   "  weir maps\n  weir maps table --limit 5\n  weir maps constants -o json",
		ValidArgs: names,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("want one map, or none to list all (see: %s --help)", c.CommandPath())
			case len(args) == 1 && !slices.Contains(names, args[0]):
				return usagef("unknown map %q: want one of %s", args[0], strings.Join(names, ", "))
			case limit < 0:
				return usagef("--limit %d: want 0 for all entries, or more", limit)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listMaps(e)
			}
			return dumpMap(e, args[0], limit)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "entries of the table to show; 0: all that owe tokens")
	return cmd
}

func dumpMap(e *env, name string, limit int) error {
	return e.inspect(func(d *loader.StateDir, all []loader.Attachment) error {
		if d == nil || len(all) == 0 {
			return nothingAttached(e)
		}
		i := slices.IndexFunc(mapDumps(), func(m mapDump) bool { return m.name == name })
		return mapDumps()[i].show(e, d, limit)
	})
}

// nothingAttached is the error of commands that have nothing to say then.
func nothingAttached(e *env) error {
	return fmt.Errorf("%s: %w (begin with: weir attach IFACE -c FILE)", e.stateDir, loader.ErrNothingAttached)
}

// mapsView is the JSON of weir maps.
type mapsView struct {
	StateDir string             `json:"state_dir"`
	Maps     []loader.PinnedMap `json:"maps"`
}

func listMaps(e *env) error {
	return e.inspect(func(d *loader.StateDir, _ []loader.Attachment) error {
		v := mapsView{StateDir: e.stateDir, Maps: []loader.PinnedMap{}}
		if d != nil {
			maps, err := d.Maps()
			if err != nil {
				return err
			}
			v.Maps = append(v.Maps, maps...)
		}
		return e.show(v, func(p *page) {
			if len(v.Maps) == 0 {
				writeNothing(p, e)
				return
			}
			writeMaps(p, v.Maps)
		})
	})
}

func writeMaps(p *page, maps []loader.PinnedMap) {
	g := grid{columns: columns("MAP", "INTERFACE", "TYPE", ">KEY", ">VALUE", ">ENTRIES", ">MEMORY", "PATH")}
	for _, m := range maps {
		iface := cell{m.Interface, plain}
		if m.Interface == "" {
			iface = cell{"all", faint}
		}
		g.add(cell{m.Name, bold}, iface, text(m.Type), text(fmt.Sprintf("%d B", m.KeySize)), text(fmt.Sprintf("%d B", m.ValueSize)),
			number(uint64(m.MaxEntries)), text(memorySize(m.Memory)), cell{m.Path, faint})
	}
	g.write(p)
}
