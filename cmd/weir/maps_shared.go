package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/server"
)

// slotsDump is the JSON of weir maps slots.
type slotsDump struct {
	Used  int        `json:"used"` // by all CPUs
	Slots []slotView `json:"slots"`
}

// slotView is what one CPU knows of one bucket.
type slotView struct {
	CPU        int    `json:"cpu"`
	Credit     uint32 `json:"credit"`      // tokens
	Denied     bool   `json:"denied"`      // its last answer was a denial
	DenyTokens uint32 `json:"deny_tokens"` // what has this many tokens or more was denied
}

func dumpSlots(e *env, d *loader.StateDir, limit int) error {
	buckets, err := d.OpenBuckets()
	if err != nil {
		return err
	}
	all := buckets.Slots()
	if err := buckets.Close(); err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b bucket.SlotState) int {
		return cmp.Or(cmp.Compare(a.CPU, b.CPU), cmp.Compare(b.Credit, a.Credit), cmp.Compare(b.DenyTokens, a.DenyTokens))
	})
	v := slotsDump{Used: len(all), Slots: []slotView{}}
	for _, s := range limited(all, limit) {
		v.Slots = append(v.Slots, slotView(s))
	}
	return e.show(v, func(p *page) {
		if v.Used == 0 {
			p.printf("no CPU knows of any bucket\n")
			return
		}
		g := grid{columns: columns(">CPU", ">LEASED", "LAST DENIED")}
		for _, s := range v.Slots {
			denied := cell{"-", faint}
			if s.Denied {
				denied = text(plural(int(s.DenyTokens), "token", "tokens"))
			}
			g.add(text(fmt.Sprint(s.CPU)), number(uint64(s.Credit)), denied)
		}
		g.write(p)
		writeRest(p, v.Used-len(v.Slots), "are in use")
	})
}

// tagsDump is the JSON of weir maps tags. The tags themselves are parts of hashes.
type tagsDump struct {
	Tagged   int `json:"tagged"` // entries of the table that have one
	Capacity int `json:"capacity"`
}

func dumpTags(e *env, d *loader.StateDir, _ int) error {
	buckets, err := d.OpenBuckets()
	if err != nil {
		return err
	}
	v := tagsDump{Tagged: buckets.Tagged(), Capacity: buckets.Sets() * bucket.SetWays}
	if err := buckets.Close(); err != nil {
		return err
	}
	return e.show(v, func(p *page) {
		p.printf("%s of %s entries have a tag\n", thousands(uint64(v.Tagged)), thousands(uint64(v.Capacity)))
	})
}

func dumpBans(e *env, d *loader.StateDir, limit int, is4 bool) error {
	all, err := listBans(d)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(b server.Ban) bool { return b.Prefix.Addr().Is4() != is4 })
	v := bansView{Bans: append([]server.Ban{}, limited(all, limit)...)}
	return e.show(v, func(p *page) {
		writeBans(p, v.Bans)
		writeRest(p, len(all)-len(v.Bans), "are banned")
	})
}

// controlDump is the JSON of weir maps control.
type controlDump struct {
	Listening time.Duration `json:"listening_ns"` // for how long the programs emit events yet
	Bans4     uint32        `json:"bans4"`
	Bans6     uint32        `json:"bans6"`
}

func dumpControl(e *env, d *loader.StateDir, _ int) error {
	c, err := d.Control()
	if err != nil {
		return err
	}
	return e.show(controlDump(c), func(p *page) {
		g := fields("")
		if c.Listening > 0 {
			g.field("events", "are emitted for %s more, unless the listener renews it", span(c.Listening))
		} else {
			g.field("events", "are not emitted: nobody listens")
		}
		for _, family := range []struct {
			name string
			n    uint32
		}{{"bans4", c.Bans4}, {"bans6", c.Bans6}} {
			asked := "asked for every packet that allow and deny do not decide over"
			if family.n == 0 {
				asked = "not asked"
			}
			g.field(family.name, "%s, %s", plural(int(family.n), "entry", "entries"), asked)
		}
		g.write(p)
	})
}

// ringDump is the JSON of weir maps events and hot. Positions are bytes since the ring buffer was made.
type ringDump struct {
	Size    int    `json:"size"`
	Written uint64 `json:"written"`
	Read    uint64 `json:"read"`
}

func dumpEvents(e *env, d *loader.StateDir, _ int) error {
	return dumpRing(e, d.EventsPosition, "weir top reads them")
}

func dumpHot(e *env, d *loader.StateDir, _ int) error {
	return dumpRing(e, d.HotPosition, "the daemon reads them where nodes share limits")
}

func dumpRing(e *env, position func() (loader.RingPosition, error), reader string) error {
	at, err := position()
	if err != nil {
		return err
	}
	return e.show(ringDump(at), func(p *page) {
		g := fields("")
		g.field("size", "%s", memorySize(uint64(at.Size)))
		g.field("written", "%s bytes since it was made", thousands(at.Written))
		g.field("unread", "%s bytes (%s)", thousands(at.Written-at.Read), reader)
		g.write(p)
	})
}

// hotControlDump is the JSON of weir maps hot_control.
type hotControlDump struct {
	Listening time.Duration    `json:"listening_ns"` // for how long the programs announce sources yet
	Tokens    map[uint8]uint64 `json:"tokens"`       // by counter slot: a source is announced each time that it has used so many
}

func dumpHotControl(e *env, d *loader.StateDir, _ int) error {
	c, err := d.HotControl()
	if err != nil {
		return err
	}
	v := hotControlDump{Listening: c.Listening, Tokens: map[uint8]uint64{}}
	for slot, shift := range c.Shift {
		if shift < loader.HotNever && c.Listening > 0 {
			v.Tokens[uint8(slot)] = 1 << shift
		}
	}
	return e.show(v, func(p *page) {
		g := fields("")
		if c.Listening > 0 {
			g.field("sources", "are announced for %s more, unless the listener renews it", span(c.Listening))
		} else {
			g.field("sources", "are not announced: nobody listens")
		}
		for _, slot := range slices.Sorted(maps.Keys(v.Tokens)) {
			g.field(fmt.Sprintf("slot %d", slot), "each %s of use", plural(int(v.Tokens[slot]), "token", "tokens"))
		}
		g.write(p)
	})
}
