package simulation

import (
	"flag"
	"testing"
)

var leaseRuns = flag.Int("lease-schedules", 1000, "how many random schedules of leases to run")

// scenes are what schedules of leases are drawn from: every fault by chance, and three that come about too seldom by it.
var scenes = map[string]func(uint64, LeaseMutation) *LeaseSchedule{
	"chance": DrawLeases, "silence": DrawSilence, "loss": DrawLoss, "mute": DrawMute,
}

var scene = flag.String("scene", "chance", "with -seed: what the schedule of leases is drawn from: chance, silence, loss or mute")

func TestLeaseSchedules(t *testing.T) {
	if *seed != 0 {
		s := scenes[*scene](*seed, SoundLeases)
		t.Log(s)
		c, err := s.Run()
		for i := range c.Meters {
			t.Logf("source %d: admitted %.0f, %.3f of the limit; at most %.1f above rate * t, bound %.1f", i, c.Meters[i].Admitted,
				s.used(c, i), c.Meters[i].Highest(), c.Bound(i))
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, draw := range scenes {
		runs := *leaseRuns
		if name != "chance" {
			runs /= 10
		}
		closest, least := 0.0, 1.0
		for n := range uint64(runs) {
			s := draw(n+1, SoundLeases)
			c, err := s.Run()
			if err != nil {
				t.Errorf("%v\n%vagain: go test ./internal/simulation -run TestLeaseSchedules -scene %s -seed %d", err, s, name, n+1)
			}
			for i := range c.Meters {
				closest = max(closest, c.Meters[i].Highest()/c.Bound(i))
				least = min(least, s.used(c, i))
			}
		}
		t.Logf("%s: %d schedules; the closest came to %.2f of its bound, the least admitted was %.3f of the limit", name, runs, closest, least)
	}
}

func TestLeaseMutationsAreFound(t *testing.T) {
	mutations := []struct {
		name     string
		mutation LeaseMutation
		scene    string
	}{
		{"the cap is not divided by the nodes", Undivided, "chance"},
		{"an old heartbeat ends no lease", Undead, "silence"},
		{"an unanswered lease counts as granted", Hopeful, "chance"},
		{"an unanswered lease is paid again", Numberless, "mute"},
		{"what was known of lost data is not told", Forgetful, "loss"},
	}
	for _, m := range mutations {
		const runs = 100
		found := 0
		for n := range uint64(runs) {
			if _, err := scenes[m.scene](n+1, m.mutation).Run(); err != nil {
				found++
			}
		}
		t.Logf("%s: found by %d of %d schedules (%s)", m.name, found, runs, m.scene)
		if found == 0 {
			t.Errorf("%s: no schedule found it", m.name)
		}
	}
}
