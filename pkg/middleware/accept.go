package middleware

import "strings"

// maxRanges is how many media ranges of a request are looked at.
const maxRanges = 32

// offer is what the Accept header of a request says of one type that it could get.
type offer struct {
	quality  int // thousandths; 0: not acceptable
	exact    int // how exactly it was named: 1 "*/*", 2 "application/*", 3 itself
	position int // of the range that named it
}

// hear takes in a media range that names what is offered.
func (o *offer) hear(quality, exact, position int) {
	if exact > o.exact || exact == o.exact && quality > o.quality {
		*o = offer{quality, exact, position}
	}
}

// prefersProblem tells whether a client would rather have application/problem+json than application/json.
// Where it likes both as much, it is the one that it named more exactly, and of two named alike the first
// of them. Who doesn't mind gets JSON, and so does who wants neither.
func prefersProblem(accept []string) bool {
	var problem, plain offer
	position := 0
	for _, line := range accept {
		for line != "" && position < maxRanges {
			var element string
			element, line = cutUnquoted(line, ',')
			position++
			kind, quality, ok := parseRange(element)
			if !ok {
				continue
			}
			switch {
			case strings.EqualFold(kind, "application/problem+json"):
				problem.hear(quality, 3, position)
			case strings.EqualFold(kind, "application/json"):
				plain.hear(quality, 3, position)
			case strings.EqualFold(kind, "application/*"):
				problem.hear(quality, 2, position)
				plain.hear(quality, 2, position)
			case kind == "*/*":
				problem.hear(quality, 1, position)
				plain.hear(quality, 1, position)
			}
		}
	}
	switch {
	case problem.quality != plain.quality:
		return problem.quality > plain.quality
	case problem.quality == 0 || problem.exact != plain.exact:
		return problem.quality > 0 && problem.exact > plain.exact
	}
	return problem.exact == 3 && problem.position < plain.position
}

// parseRange parses a media range: its type, and the weight in thousandths. Other parameters don't matter.
func parseRange(text string) (kind string, quality int, ok bool) {
	kind, rest := cutUnquoted(text, ';')
	kind, quality = trim(kind), 1000
	for rest != "" {
		var parameter string
		parameter, rest = cutUnquoted(rest, ';')
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(trim(name), "q") {
			if quality, ok = parseQuality(trim(value)); !ok {
				return "", 0, false
			}
			break // what follows is no parameter of the type
		}
	}
	return kind, quality, kind != ""
}

// parseQuality parses a weight of RFC 9110, section 12.4.2: 0 to 1 with at most three decimals.
func parseQuality(text string) (thousandths int, ok bool) {
	if text == "" || len(text) > len("0.000") || text[0] != '0' && text[0] != '1' || len(text) > 1 && text[1] != '.' {
		return 0, false
	}
	thousandths = int(text[0]-'0') * 1000
	for i, unit := 2, 100; i < len(text); i, unit = i+1, unit/10 {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		thousandths += int(text[i]-'0') * unit
	}
	return thousandths, thousandths <= 1000
}

// cutUnquoted cuts at the first separator that is not in a quoted string.
func cutUnquoted(text string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == separator:
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}

func trim(s string) string { return strings.Trim(s, " \t") }
