package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// maxCheckBody is how long a body of /v1/check or /v1/release may be, in bytes.
const maxCheckBody = 64 << 10

// likelyCheckBody is longer than nearly all of them. Memory for more is there when more has come: to announce
// a length costs a client nothing.
const likelyCheckBody = 4 << 10

// readBody reads a body of /v1/check or /v1/release. That it is too large is answered with 400, as all that
// is wrong with such a body.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var data bytes.Buffer
	if r.ContentLength > 0 {
		data.Grow(int(min(r.ContentLength, likelyCheckBody)) + bytes.MinRead) // ReadFrom needs no more then
	}
	_, err := data.ReadFrom(http.MaxBytesReader(w, r.Body, maxCheckBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, badRequest("body", fmt.Sprintf("is larger than %d bytes", maxCheckBody), "send a smaller one")
	}
	if err != nil {
		// Why tells addresses.
		return nil, NewProblem(http.StatusBadRequest, "the body ended early, or came too slowly")
	}
	return data.Bytes(), nil
}

// decodeObject reads a JSON object by read, and fails with a [Problem] that has all that is wrong with it.
func decodeObject(data []byte, o *object, read func(name, path string, value []byte)) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return badBody(io.EOF)
	}
	if !utf8.Valid(data) {
		return NewProblem(http.StatusBadRequest, "the body is not UTF-8 text")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return badBody(err)
	}
	o.each(data, "", topField, read)
	return o.problem()
}

func (o *object) problem() error {
	if o.faults == nil {
		return nil
	}
	return senseless(o.faults...)
}

func badRequest(field, problem, mend string) error {
	return senseless(Fault{Field: field, Problem: problem, Mend: mend})
}

// checkBody is a body of /v1/check: a key with a limit of its own, or a context to which the policies apply.
type checkBody struct {
	object
	query   limiter.Query
	set     map[string]bool // which fields it has
	context limiter.RequestContext
}

// decodeQuery makes a query of a body of /v1/check. What the limiter judges by itself, such as how long a key
// may be, is left to it.
func decodeQuery(data []byte) (limiter.Query, error) {
	b := checkBody{query: limiter.Query{Hits: 1}, set: map[string]bool{}}
	if err := decodeObject(data, &b.object, b.field); err != nil {
		return limiter.Query{}, err
	}
	if b.set["context"] {
		b.query.Request = &b.context
	}
	b.checkFields()
	return b.query, b.problem()
}

func (b *checkBody) field(name, path string, value []byte) {
	b.set[name] = true
	switch name {
	case "key":
		b.text(path, value, &b.query.Key)
	case "limit":
		b.number(path, value, &b.query.Limit)
	case "window":
		b.window(path, value, &b.query.Window)
	case "window_seconds":
		b.seconds(path, value, &b.query.Window)
	case "hits":
		b.number(path, value, &b.query.Hits)
	case "context":
		b.each(value, path, subField, b.contextField)
	default:
		b.fault(path, "there are key, limit, window, window_seconds, hits and context", "unknown field")
	}
}

func (b *checkBody) contextField(name, path string, value []byte) {
	c := &b.context
	switch name {
	case "client_ip":
		b.address(path, value, &c.ClientIP)
	case "method":
		b.text(path, value, &c.Method)
		c.Method = strings.ToUpper(c.Method)
	case "endpoint":
		b.text(path, value, &c.Endpoint)
	case "user_id":
		b.text(path, value, &c.UserID)
	case "user_role":
		b.text(path, value, &c.UserRole)
	case "api_key":
		b.apiKey(path, value, &c.APIKey)
	case "request_id":
		c.RequestID = b.boundedText(path, value)
	case "metadata":
		c.Metadata = b.texts(path, value)
	default:
		b.fault(path, "there are client_ip, method, endpoint, user_id, user_role, api_key, request_id and metadata", "unknown field")
	}
}

func (b *checkBody) address(path string, value []byte, to *netip.Addr) {
	const mend = "write it as 203.0.113.7 or 2001:db8::7, or leave it out if it is not known"
	var text string
	b.text(path, value, &text)
	address, err := netip.ParseAddr(text)
	switch {
	case value[0] != '"': // was told
	case err != nil:
		b.fault(path, mend, "want an IP address")
	case address.Zone() != "":
		b.fault(path, mend, "has a zone, which means nothing to another machine")
	default:
		*to = address.Unmap()
	}
}

// apiKey keeps the digest alone: the limiter, its logs and its metrics never see the key.
func (b *checkBody) apiKey(path string, value []byte, to *string) {
	if raw := b.boundedText(path, value); raw != "" {
		*to = identity.HashAPIKey(raw)
	}
}

// boundedText is one that the limiter does not see, and so does not judge; empty if something is wrong with it.
func (b *checkBody) boundedText(path string, value []byte) (text string) {
	b.text(path, value, &text)
	switch {
	case len(text) > limiter.MaxKey:
		b.fault(path, fmt.Sprintf("shorten it to at most %d", limiter.MaxKey), "has %d bytes", len(text))
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		b.fault(path, "remove it", "has a control character")
	default:
		return text
	}
	return ""
}

// checkFields holds the fields against one another.
func (b *checkBody) checkFields() {
	const either = `send key, limit and window, or context`
	if b.set["context"] {
		for _, name := range []string{"limit", "window", "window_seconds"} {
			if b.set[name] {
				b.fault(name, either, "is set beside context, whose limits are those of the policies")
			}
		}
		return
	}
	switch {
	case !b.set["key"]:
		b.fault("key", either, "is missing")
	case b.query.Key == "":
		b.fault("key", "name whoever is to be limited, such as user:123", "is empty")
	}
	switch {
	case !b.set["limit"]:
		b.fault("limit", either, "is missing")
	case b.query.Limit == 0:
		b.fault("limit", "set it to 1 or more", "must be at least 1, got 0")
	}
	switch {
	case b.set["window"] && b.set["window_seconds"]:
		b.fault("window_seconds", "leave one out", "is set beside window")
	case !b.set["window"] && !b.set["window_seconds"]:
		b.fault("window", either, "is missing")
	case b.query.Window < time.Nanosecond:
		b.fault("window", `set it to a duration such as "1h", or to a number of seconds`, "must be longer than 0")
	}
}
