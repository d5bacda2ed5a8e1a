package middleware

import (
	"strconv"
	"sync"
)

// bodies are buffers for what denied requests are answered with. In a flood that is most of what is
// written, so it is made without reflection; a test compares it with what encoding/json makes.
var bodies = sync.Pool{New: func() any {
	body := make([]byte, 0, 512)
	return &body
}}

// AppendJSON adds the body of [NewErrorBody] to text: one line without its end, of printable ASCII, so that a header
// may have it too.
func (b ErrorBody) AppendJSON(to []byte) []byte {
	to = append(to, `{"error":{"code":`...)
	to = appendQuoted(to, b.Error.Code)
	to = append(to, `,"message":`...)
	to = appendQuoted(to, b.Error.Message)
	to = append(to, `,"details":{`...)
	to = appendDetails(to, b.Error.Details)
	to = append(to, `},"recovery_suggestions":[`...)
	for i, s := range b.Error.RecoverySuggestions {
		if i > 0 {
			to = append(to, ',')
		}
		to = appendQuoted(to, s)
	}
	return append(to, "]}}"...)
}

func appendProblem(to []byte, p Problem) []byte {
	to = append(to, `{"type":`...)
	to = appendQuoted(to, p.Type)
	to = append(to, `,"title":`...)
	to = appendQuoted(to, p.Title)
	to = append(to, `,"status":`...)
	to = strconv.AppendInt(to, int64(p.Status), 10)
	to = append(to, `,"detail":`...)
	to = appendQuoted(to, p.Detail)
	to = append(to, ',')
	to = appendDetails(to, p.ErrorDetails)
	return append(to, "}\n"...)
}

func appendDetails(to []byte, d ErrorDetails) []byte {
	to = strconv.AppendUint(append(to, `"limit":`...), d.Limit, 10)
	to = strconv.AppendUint(append(to, `,"window_seconds":`...), d.WindowSeconds, 10)
	to = strconv.AppendUint(append(to, `,"retry_after_seconds":`...), d.RetryAfterSeconds, 10)
	return appendQuoted(append(to, `,"policy":`...), d.Policy)
}

// appendQuoted adds printable ASCII as a string of JSON, fit to stand in HTML.
func appendQuoted(to []byte, s string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			to = append(to, '\\', c)
		case '<', '>', '&':
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = append(to, c)
		}
	}
	return append(to, '"')
}
