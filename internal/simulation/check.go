package simulation

import (
	"fmt"
	"time"
)

// Meter checks that in every interval what was admitted is at most excess + rate * t. That is so for all of them if a
// bucket that leaks at rate, into which all that was admitted flows, never holds more than excess: its level is the worst
// interval's that ends now.
type Meter struct {
	level, highest float64
	at             time.Duration
	highestAt      time.Duration
	Admitted       float64
}

// Leak lets time pass, at a rate of tokens per second.
func (m *Meter) Leak(to time.Duration, rate float64) {
	m.level = max(0, m.level-rate*(to-m.at).Seconds())
	m.at = to
}

// Admit lets tokens in.
func (m *Meter) Admit(tokens float64) {
	m.Admitted += tokens
	if m.level += tokens; m.level > m.highest {
		m.highest, m.highestAt = m.level, m.at
	}
}

// Highest is the least excess for which the bound holds.
func (m *Meter) Highest() float64 { return m.highest }

// Violation is a bound that did not hold.
type Violation struct {
	Seed   uint64
	Source int
	At     time.Duration
	Got    float64
	Bound  float64
}

func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d: source %d at %v: %.1f tokens above rate * t, bound %.1f", v.Seed, v.Source, v.At, v.Got, v.Bound)
}
