package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
)

// tableDump is the JSON of weir maps table.
type tableDump struct {
	Sets     int         `json:"sets"`
	Ways     int         `json:"ways"`
	Capacity int         `json:"capacity"`
	Claimed  int         `json:"claimed"`
	Owing    int         `json:"owing"`
	Entries  []entryView `json:"entries"` // the owing ones, largest debt first, up to the limit
}

// entryView is one entry of the table. Where it is and what it is known by are parts of a hash.
type entryView struct {
	Used uint32        `json:"used"`
	Debt time.Duration `json:"debt_ns"`
}

func dumpTable(e *env, d *loader.StateDir, limit int) error {
	buckets, err := d.OpenBuckets()
	if err != nil {
		return err
	}
	v := readEntries(buckets.Table, loader.Now(), limit)
	return errors.Join(e.show(v, func(p *page) { writeEntries(p, v) }), buckets.Close())
}

// readEntries lists the entries that owe most at now; a limit of 0 lists all that owe.
func readEntries(t *bucket.Table, now bucket.Ticks, limit int) *tableDump {
	v := &tableDump{Sets: t.Sets(), Ways: bucket.SetWays, Capacity: t.Sets() * bucket.SetWays, Entries: []entryView{}}
	var owing []bucket.Entry
	for entry := range t.Entries() {
		v.Claimed++
		if bucket.Debt(entry.TAT, now) > 0 {
			owing = append(owing, entry)
		}
	}
	v.Owing = len(owing)
	// Ticks wrap: two instants are compared by their distance.
	slices.SortFunc(owing, func(a, b bucket.Entry) int {
		return cmp.Or(cmp.Compare(bucket.Debt(b.TAT, now), bucket.Debt(a.TAT, now)), cmp.Compare(b.Used, a.Used))
	})
	if limit > 0 {
		owing = owing[:min(limit, len(owing))]
	}
	for _, entry := range owing {
		v.Entries = append(v.Entries, entryView{Used: entry.Used, Debt: bucket.Debt(entry.TAT, now).Duration()})
	}
	return v
}

func writeEntries(p *page, v *tableDump) {
	p.printf("%s sets of %d: %s entries, %s claimed, %s owing\n\n", thousands(uint64(v.Sets)), v.Ways,
		thousands(uint64(v.Capacity)), thousands(uint64(v.Claimed)), thousands(uint64(v.Owing)))
	if len(v.Entries) == 0 {
		p.printf("no entry owes tokens: every bucket is full\n")
		return
	}
	g := grid{columns: columns(">DEBT", ">USED")}
	for _, entry := range v.Entries {
		g.add(text(span(entry.Debt)), number(uint64(entry.Used)))
	}
	g.write(p)
	writeRest(p, v.Owing-len(v.Entries), "owe less")
}

func dumpIdentity(e *env, d *loader.StateDir, _ int) error {
	layout, err := d.PinnedLayout()
	if err != nil {
		return err
	}
	return e.show(map[string]any{"layout_version": layout}, func(p *page) {
		g := fields("")
		g.field("layout", "%d (this version of weir has %d)", layout, loader.LayoutVersion)
		g.field("secret", "not shown: who knows it can choose addresses that share a set")
		g.write(p)
	})
}

func dumpConstants(e *env, d *loader.StateDir, _ int) error {
	all, err := d.Constants()
	if err != nil {
		return err
	}
	return e.show(map[string]any{"attachments": all}, func(p *page) {
		for i, c := range all {
			if i > 0 {
				p.printf("\n")
			}
			p.printf("%s  table mask %#x, multi-buffer %d\n\n", p.paint(bold, ownerText(c.Owner)), c.TableMask, c.MultiBuffer)
			writeConstants(p, c.Policies)
		}
	})
}

func writeConstants(p *page, policies []loader.PolicyConstants) {
	g := grid{
		indent:  "  ",
		columns: columns("POLICY", ">SLOT", ">TOKEN TIME", ">DEPTH", ">BURST", ">LEASE", "CLOCK", "SCOPE", "UNIT", "MODE", "PRESSURE", "IPV4 MASK", "IPV6 MASK", ">NEW SOURCES"),
	}
	for _, c := range policies {
		g.add(text(c.Name), text(fmt.Sprint(c.Slot)), text(tokenTime(c)), text(span(c.Depth.Duration())), number(c.Burst),
			number(uint64(c.Lease)), text(clockText(c.Coarse)), text(string(c.Scope)), text(string(c.Unit)), text(string(c.Mode)),
			text(string(c.OnPressure)), text(c.IPv4Mask), text(c.IPv6Mask), number(c.NewSources))
	}
	g.write(p)
}

// clockText is by which clock a CPU knows that a denial is over.
func clockText(coarse bool) string {
	if coarse {
		return "coarse"
	}
	return "exact"
}

// tokenTime is exact where that is a whole number of nanoseconds, which are 256 ticks.
func tokenTime(c loader.PolicyConstants) string {
	const nanosecond = 256
	if whole := uint64(nanosecond) << c.FracBits; c.TokenTime%whole == 0 {
		return time.Duration(c.TokenTime / whole).String()
	}
	return fmt.Sprintf("%.6g ns", float64(c.TokenTime)/float64(uint64(1)<<c.FracBits)/nanosecond)
}

// writeRest says how much a limit left out.
func writeRest(p *page, rest int, what string) {
	if rest > 0 {
		p.printf("\n%s more %s (--limit 0 shows all)\n", thousands(uint64(rest)), what)
	}
}

// limited is as much of all as is to be shown; 0 is all of it.
func limited[T any](all []T, limit int) []T {
	if limit == 0 {
		return all
	}
	return all[:min(limit, len(all))]
}
