package policy

// RateFaults returns what is wrong with limit, window and burst alone: for a
// limit that no policy of a set has. It does not allocate if nothing is.
func (p Policy) RateFaults() []Fault {
	var fs faults
	p.checkRates(&fs)
	return fs
}
