package simulation

import (
	"flag"
	"testing"
)

var (
	seed = flag.Uint64("seed", 0, "run the schedule of this seed alone, and tell what happens in it")
	runs = flag.Int("schedules", 2000, "how many random schedules to run")
)

func TestSchedules(t *testing.T) {
	if *seed != 0 {
		s := Draw(*seed, Sound)
		t.Log(s)
		c, err := s.Run()
		for i := range c.Meters {
			t.Logf("source %d: admitted %.0f, at most %.1f above rate * t, bound %.1f", i, c.Meters[i].Admitted, c.Meters[i].Highest(), c.Bound(i, 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var closest float64
	for n := range uint64(*runs) {
		s := Draw(n+1, Sound)
		c, err := s.Run()
		if err != nil {
			t.Errorf("%v\n%vagain: go test ./internal/simulation -run TestSchedules -seed %d", err, s, n+1)
		}
		for i := range c.Meters {
			closest = max(closest, c.Meters[i].Highest()/c.Bound(i, 0))
		}
	}
	t.Logf("%d schedules; the closest came to %.2f of its bound", *runs, closest)
}

func TestMutationsAreFound(t *testing.T) {
	for m := DeafStore; m <= Recount; m++ {
		found := 0
		for n := range uint64(200) {
			if _, err := Draw(n+1, m).Run(); err != nil {
				found++
			}
		}
		t.Logf("mutation %d: found by %d of 200 schedules", m, found)
		if found == 0 {
			t.Errorf("mutation %d: no schedule found it", m)
		}
	}
}
