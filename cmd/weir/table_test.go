package main

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestGrid(t *testing.T) {
	g := grid{indent: "  ", columns: columns("NAME", ">COUNT", "NOTE")}
	g.add(cell{"a", bold}, cell{"1,000", red}, text("first"))
	g.add(text("längst"), number(0), text(""))
	for _, c := range []struct {
		name   string
		colour bool
		want   string
	}{
		{"plain", false, "" +
			"  NAME    COUNT  NOTE\n" +
			"  a       1,000  first\n" +
			"  längst      0\n"},
		{"colour", true, "" +
			"  \x1b[1mNAME\x1b[0m    \x1b[1mCOUNT\x1b[0m  \x1b[1mNOTE\x1b[0m\n" +
			"  \x1b[1ma\x1b[0m       \x1b[31m1,000\x1b[0m  first\n" +
			"  längst      \x1b[2m0\x1b[0m\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			p := &page{w: &out, colour: c.colour}
			g.write(p)
			if out.String() != c.want || p.err != nil {
				t.Errorf("got %v:\n%s\nwant:\n%s", p.err, out.String(), c.want)
			}
		})
	}
}

// failing is a full disk, or a reader that went away.
type failing struct{ writes int }

var errFull = errors.New("no space left")

func (f *failing) Write([]byte) (int, error) { f.writes++; return 0, errFull }

func TestPageKeepsTheFirstError(t *testing.T) {
	w := &failing{}
	p := &page{w: w}
	p.printf("one")
	p.printf("two")
	if !errors.Is(p.err, errFull) || w.writes != 1 {
		t.Errorf("%v after %d writes, want %v after 1", p.err, w.writes, errFull)
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"},
		{thousands(999), "999"},
		{thousands(1000), "1,000"},
		{thousands(math.MaxUint64), "18,446,744,073,709,551,615"},
		{memorySize(0), "0 B"},
		{memorySize(1023), "1023 B"},
		{memorySize(1536), "1.5 KiB"},
		{memorySize(16 << 20), "16 MiB"},
		{memorySize(4 << 40), "4 TiB"},
		{percent(0, 0), "0.0 %"},
		{percent(1, 3), "33.3 %"},
		{span(0), "0s"},
		{span(5 * time.Nanosecond), "5ns"},
		{span(1234567), "1.23ms"},
		{span(999999), "1ms"},
		{span(59999 * time.Millisecond), "1m0s"},
		{span(90 * time.Second), "1m30s"},
		{span(125 * time.Minute), "2h5m"},
		{span(76 * time.Hour), "3d4h"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
