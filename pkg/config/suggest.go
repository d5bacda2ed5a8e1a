package config

// nearest returns the name that word is most likely a slip of: the one with the
// smallest edit distance, if that is small for the length of the word.
func nearest(word string, names []string) (string, bool) {
	const longest = 40 // bytes; no field name is near it
	if len(word) > longest {
		return "", false
	}
	best, found := 1+max(1, len(word)/3), ""
	for _, name := range names {
		if n := editDistance(word, name); n < best {
			best, found = n, name
		}
	}
	return found, found != ""
}

// editDistance is the number of bytes to insert, delete, replace or swap with
// their neighbour to turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
