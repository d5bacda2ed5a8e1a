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
		{"tags", dumpTags},
		{"slots", dumpSlots},
		{"identity", dumpIdentity},
		{"bans4", func(e *env, d *loader.StateDir, limit int) error { return dumpBans(e, d, limit, true) }},
		{"bans6", func(e *env, d *loader.StateDir, limit int) error { return dumpBans(e, d, limit, false) }},
		{"control", dumpControl},
		{"events", dumpEvents},
		{"hot", dumpHot},
		{"hot_control", dumpHotControl},
		{"constants", dumpConstants},
		{"document", dumpDocument},
		{"sources4", func(e *env, d *loader.StateDir, limit int) error { return dumpSources(e, d, limit, true) }},
		{"sources6", func(e *env, d *loader.StateDir, limit int) error { return dumpSources(e, d, limit, false) }},
		{"ports", dumpPorts},
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

  table            the buckets that owe most: tokens used, debt
  tags             how many entries the map of their tags tells of
  slots            what each CPU knows of buckets: tokens that it has leased, what it denied last
  identity         the version of the layout; the secret of the hash stays in the kernel
  bans4, bans6     the timed bans of each address family
  control          what the programs are told: whether somebody listens, how many bans there are
  events           how far the ring buffer of samples was written and read
  hot              the same of the ring buffer of sources that other nodes are to be told of
  hot_control      how much a source has to use to be announced there, by the policies' counters
  constants        the policies as the program computes with them, for each attachment
  document         the policies and lists as they were written
  sources4, 6      what each prefix is worth: the policies whose match.sources it satisfies, allow, deny
  ports            the same for ranges of ports
  policy_stats     packets and bytes by policy and CPU
  interface_stats  what belongs to no policy, by CPU

The debt of a bucket is the time until it is full. Whose a bucket is can't be told, as no hash is shown: who
knows the hashes of addresses can learn the secret that they are made with. "weir bucket get" finds the
bucket of an address.`,
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
	cmd.Flags().IntVar(&limit, "limit", 20, "entries of table, slots, bans and sources to show; 0: all")
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
	g := grid{columns: columns("MAP", "AT", "TYPE", ">KEY", ">VALUE", ">ENTRIES", ">MEMORY", "PATH")}
	for _, m := range maps {
		at := text(ownerText(m.Owner))
		if m.Interface == "" {
			at = cell{"all", faint}
		}
		g.add(cell{m.Name, bold}, at, text(m.Type), text(fmt.Sprintf("%d B", m.KeySize)), text(fmt.Sprintf("%d B", m.ValueSize)),
			number(uint64(m.MaxEntries)), text(memorySize(m.Memory)), cell{m.Path, faint})
	}
	g.write(p)
}

// ownerText names the attachment that a map belongs to.
func ownerText(o loader.Owner) string { return o.Interface + " " + string(o.Hook) }
