package simulation

import (
	"flag"
	"testing"
)

var leaseRuns = flag.Int("lease-schedules", 1000, "how many random schedules of leases to run")

func TestLeaseSchedules(t *testing.T) {
	if *seed != 0 {
		s := DrawLeases(*seed, SoundLeases)
		t.Log(s)
		c, err := s.Run()
		for i := range c.Meters {
			t.Logf("source %d: admitted %.0f, at most %.1f above rate * t, bound %.1f", i, c.Meters[i].Admitted, c.Meters[i].Highest(), c.Bound(i))
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var closest float64
	for n := range uint64(*leaseRuns) {
		s := DrawLeases(n+1, SoundLeases)
		c, err := s.Run()
		if err != nil {
			t.Errorf("%v\n%vagain: go test ./internal/simulation -run TestLeaseSchedules -seed %d", err, s, n+1)
		}
		for i := range c.Meters {
			closest = max(closest, c.Meters[i].Highest()/c.Bound(i))
		}
	}
	t.Logf("%d schedules; the closest came to %.2f of its bound", *leaseRuns, closest)
}

func TestLeaseMutationsAreFound(t *testing.T) {
	for m := Undivided; m <= Forgetful; m++ {
		found := 0
		for n := range uint64(300) {
			if _, err := DrawLeases(n+1, m).Run(); err != nil {
				found++
			}
		}
		t.Logf("mutation %d: found by %d of 300 schedules", m, found)
		if found == 0 {
			t.Errorf("mutation %d: no schedule found it", m)
		}
	}
}
