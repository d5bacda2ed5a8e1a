package topk

import (
	"math"
	"time"
)

// rescaleAfter is how many half-lives what is charged becomes heavier before everything is scaled back. A
// weight of 64 bits times 2^256 is far from what a float can hold, and so is the sum of many.
const rescaleAfter = 256

// decay tells how heavy a weight is, by its distance from a landmark.
type decay struct {
	halfLife time.Duration // 0: nothing decays
	landmark time.Duration // the instant at which a weight counts as what it is
}

// growth is what a weight of 1 at now weighs in units of the landmark.
func (d *decay) growth(now time.Duration) float64 {
	if d.halfLife <= 0 {
		return 1
	}
	return math.Exp2(float64(now-d.landmark) / float64(d.halfLife))
}

// due is by how many half-lives the landmark is to move before anything is charged at now; 0 as long as
// that can wait.
func (d *decay) due(now time.Duration) int {
	if d.halfLife <= 0 || (now-d.landmark)/d.halfLife < rescaleAfter {
		return 0
	}
	return int((now - d.landmark) / d.halfLife)
}

// scaled is weight in units of a landmark that is n half-lives later.
func (d *decay) scaled(weight float64, n int) float64 { return math.Ldexp(weight, -n) }

func (d *decay) advance(n int) { d.landmark += time.Duration(n) * d.halfLife }
