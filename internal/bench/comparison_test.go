package bench

import "testing"

func TestCompute(t *testing.T) {
	row := &Row{Section: "run", Traffic: "1 source", Contenders: []Measured{
		{Contender: nameBare}, {Contender: nameWeir}, {Contender: nameLRU, Void: "it forgot"},
	}}
	samples := [][]float64{{20, 10, 40}, {50, 45, 80}, {1, 1, 1}}
	for _, c := range []struct {
		name       string
		comparison comparison
		median     float64
		met        string
	}{
		// Within a round the differences are 30, 35 and 40; of the medians the difference would be 30.
		{"a difference, at its target", costOver(35), 35, "yes"},
		{"a difference, above its target", costOver(34), 35, "no"},
		{"a part, without a target", costRatio(nameBare, nameWeir, 0), 0.4, ""},
		{"a speed, at its target", speedRatio(nameWeir, nameBare, 0.4), 0.4, "yes"},
		{"a speed, below its target", speedRatio(nameWeir, nameBare, 0.41), 0.4, "no"},
		{"void", costRatio(nameWeir, nameLRU, 0.5), 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.comparison.compute(row, samples)
			met := map[bool]string{true: "yes", false: "no"}
			verdict := ""
			if got.Met != nil {
				verdict = met[*got.Met]
			}
			if got.Median != c.median || verdict != c.met || got.Void != (c.name == "void") {
				t.Errorf("got %+v, met %q; want %v, met %q", got, verdict, c.median, c.met)
			}
			if got.Section != row.Section || got.Traffic != row.Traffic {
				t.Errorf("of another row: %+v", got)
			}
		})
	}
	absent := speedRatio(nameWeir, nameNftables, 2)
	if got := absent.compute(row, samples); got != nil {
		t.Errorf("compared with a contender that was not there: %+v", got)
	}
}

// further and the net ratio take three figures or a count into account.
func TestPolicyComparisons(t *testing.T) {
	row := &Row{Contenders: []Measured{
		{Contender: nameBare}, {Contender: nameOnePolicy}, {Contender: nameTwo}, {Contender: nameEight}, {Contender: nameSelective},
	}}
	samples := [][]float64{{20}, {60}, {90}, {270}, {140}}
	want := []float64{140.0 / 60, 3, 30, 30}
	for i, c := range policyComparisons() {
		if got := c.compute(row, samples); got.Median != want[i] {
			t.Errorf("%s: %v, want %v", c.what, got.Median, want[i])
		}
	}
}
