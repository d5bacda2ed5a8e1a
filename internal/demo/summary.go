package demo

import (
	"fmt"
	"strings"
	"time"
)

// proof says in one sentence what a measurement without a fault has proved.
func proof(m Measurement) string {
	var held, good, amid string
	var active time.Duration
	for _, c := range m.Clients {
		switch c.Kind {
		case KindFlooder:
			if held != "" {
				held += " and "
			}
			held += fmt.Sprintf("%s of the %s's %s", thousands(c.Passed), c.Name, thousands(c.Sent))
			active = max(active, c.Active)
		case KindGood:
			good = fmt.Sprintf("the %s lost none of its %s datagrams and %s TCP exchanges", c.Name, thousands(c.Sent), thousands(m.Exchanges.OK))
		case KindSpoofed:
			amid = fmt.Sprintf("%s packets from random sources", thousands(c.Sent))
		}
	}
	return fmt.Sprintf("In %s, in which %s grant a source %s packets, weir let through %s, while %s amid %s.",
		seconds(active), terms(), thousands(uint64(granted(active))), held, good, amid)
}

// terms is the policy in words: "1000/s and a burst of 200".
func terms() string {
	p := Policy()
	return fmt.Sprintf("%s and a burst of %s", p.Rate(), thousands(p.Burst))
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
