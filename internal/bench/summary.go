package bench

import (
	"math"
	"slices"
)

// Summary is the distribution of a figure over the rounds.
type Summary struct {
	Median        float64 `json:"median"`
	LowerQuartile float64 `json:"lower_quartile"`
	UpperQuartile float64 `json:"upper_quartile"`
	Min           float64 `json:"min"`
	Max           float64 `json:"max"`
}

// Summarise reduces one sample or more. It leaves samples as they are.
func Summarise(samples []float64) Summary {
	sorted := slices.Sorted(slices.Values(samples))
	return Summary{
		Median:        quantile(sorted, 0.5),
		LowerQuartile: quantile(sorted, 0.25),
		UpperQuartile: quantile(sorted, 0.75),
		Min:           sorted[0],
		Max:           sorted[len(sorted)-1],
	}
}

// quantile interpolates between the two nearest samples (Hyndman and Fan, 1996, definition 7).
func quantile(sorted []float64, q float64) float64 {
	whole, fraction := math.Modf(q * float64(len(sorted)-1))
	i := int(whole)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + fraction*(sorted[i+1]-sorted[i])
}
