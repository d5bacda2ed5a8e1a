package demo

import (
	"fmt"
	"strings"
	"time"
)

// proof says in one sentence what a measurement without a fault has proved.
func proof(m Measurement) string {
	var held []string
	var good string
	var active time.Duration
	for _, c := range m.Clients {
		switch c.Kind {
		case KindFlooder:
			active = max(active, c.Active)
			fallthrough
		default:
			held = append(held, fmt.Sprintf("%s of the %s's %s", thousands(c.Passed), c.Name, thousands(c.Sent)))
		case KindGood:
			good = fmt.Sprintf("the %s lost none of its %s datagrams and %s TCP exchanges", c.Name, thousands(c.Sent), thousands(m.Exchanges.OK))
		case KindBanned:
			held = append(held, fmt.Sprintf("none of the %s's %s", c.Name, thousands(c.Sent)))
		}
	}
	b := boundOf(KindFlooder)
	return fmt.Sprintf("In %s, in which %s and a burst of %s grant a source %s packets, weir let through %s, while %s.",
		seconds(active), b.words, thousands(b.burst), thousands(uint64(b.granted(active))), enumerate(held), good)
}

// enumerate joins phrases: "a, b and c".
func enumerate(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// count is n of something: "1 packet", "2,000 packets".
func count(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + one + "s"
}

// thousands writes n with commas.
func thousands(n uint64) string {
	digits := fmt.Sprint(n)
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, groups...), ",")
}
