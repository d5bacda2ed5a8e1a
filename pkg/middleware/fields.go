package middleware

import (
	"net/http"
	"strconv"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/weir-limiter/weir/pkg/limiter"
)

const (
	// maxOwn is how many headers a dialect has, at most: four of x-ratelimit, two of ietf, the shadow.
	maxOwn = 7
	// maxName is how much of a name gets into a header. Policies have short ones; rules of other
	// programs' configuration may have any.
	maxName = 256
	// maxInteger is the largest Integer of a structured field: 15 digits, RFC 9651 section 3.3.1.
	maxInteger = 999_999_999_999_999
	// nameless stands for the policy of a limit that came with the question.
	nameless = "default"
)

// fields are the headers of a dialect, whose values lie one after the other in one text. The text is handed
// from function to function, and not kept here: a pointer to it would move both to the heap.
type fields struct {
	names [maxOwn]string
	ends  [maxOwn]int // of the values
	n     int
}

// end makes what was added to the text since the last call the value of a header.
func (f *fields) end(name string, text []byte) []byte {
	f.names[f.n], f.ends[f.n] = name, len(text)
	f.n++
	return text
}

// collect adds the headers of a dialect.
func (f *fields) collect(text []byte, d Dialect, res *limiter.Result, now time.Time) []byte {
	if d == Off {
		return text
	}
	if res.Policy != "" || res.Limit != 0 {
		if d.x() {
			text = f.figures(text, res, now)
		}
		if d.ietf() {
			text = f.structured(text, res)
		}
	}
	if res.Shadow != "" {
		text = f.end(headerShadow, appendName(text, res.Shadow))
	}
	return text
}

// figures adds the headers of dialect x-ratelimit.
func (f *fields) figures(text []byte, res *limiter.Result, now time.Time) []byte {
	text = f.end(headerLimit, strconv.AppendUint(text, res.Limit, 10))
	text = f.end(headerRemaining, strconv.AppendUint(text, res.Remaining, 10))
	text = f.end(headerReset, strconv.AppendInt(text, ResetUnix(res, now), 10))
	if res.Policy != "" {
		text = f.end(headerPolicy, appendName(text, res.Policy))
	}
	return text
}

// structured adds the headers of dialect ietf: both are Lists of one String with parameters.
func (f *fields) structured(text []byte, res *limiter.Result) []byte {
	start := len(text)
	text = appendString(text, res.Policy)
	name := text[start:]
	text = appendParameter(text, ";q=", res.Limit)
	if res.Window > 0 && res.Window%time.Second == 0 {
		text = appendParameter(text, ";w=", uint64(res.Window/time.Second))
	}
	text = append(f.end(headerIETFPolicy, text), name...)
	text = appendParameter(text, ";r=", res.Remaining)
	return f.end(headerIETF, appendParameter(text, ";t=", secondsUp(res.ResetAfter)))
}

// write puts the headers into h. http.Header wants a slice of strings for each, so that two
// allocations can't be helped: one string that all values are parts of, and one array for the slices.
// The map itself may grow.
func (f *fields) write(h http.Header, all []byte, extra []limiter.Header) {
	count := f.n + len(extra)
	if count == 0 {
		return
	}
	text, values, start := string(all), make([]string, count), 0
	for i := range f.n {
		values[i] = text[start:f.ends[i]]
		h[f.names[i]] = values[i : i+1 : i+1]
		start = f.ends[i]
	}
	for i, e := range extra {
		at := f.n + i
		values[at] = e.Value
		h[e.Name] = values[at : at+1 : at+1]
	}
}

func appendParameter(to []byte, name string, value uint64) []byte {
	return strconv.AppendUint(append(to, name...), min(value, maxInteger), 10)
}

// appendName adds a name as a header can hold it: what is not printable ASCII becomes "?".
func appendName(to []byte, name string) []byte {
	for i := range min(len(name), maxName) {
		c := name[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		to = append(to, c)
	}
	return to
}

// appendString adds a name as a String of a structured field. Names of policies need no escape, and are
// written without the library, which allocates some five times for each.
func appendString(to []byte, name string) []byte {
	if name == "" {
		name = nameless
	}
	if plain(name) {
		to = append(to, '"')
		to = append(to, name...)
		return append(to, '"')
	}
	text, err := httpsfv.Marshal(httpsfv.NewItem(string(appendName(nil, name))))
	if err != nil {
		text = `"` + nameless + `"` // it is printable ASCII by now: the library knows nothing else to refuse
	}
	return append(to, text...)
}

// plain tells whether a name is made of what policies have in theirs.
func plain(name string) bool {
	if len(name) > maxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// secondsUp is a duration in whole seconds, rounded up, and never negative.
func secondsUp(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d-1)/time.Second) + 1
}

// afterDecision is how much later than the decision its answer is written, most of the time. Windows end at
// whole seconds: without it, every one of them would seem to end a second later than it does.
const afterDecision = 10 * time.Millisecond

// ResetUnix is when all that a policy grants is there again, in whole seconds since 1970, rounded up: the value of
// X-RateLimit-Reset. now is a moment after the decision.
func ResetUnix(res *limiter.Result, now time.Time) int64 {
	t := now.Add(res.ResetAfter - afterDecision)
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}
