package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// What a body may have, in bytes. A document has up to policy.MaxPrefixes prefixes, each of 46 bytes at
// most.
const (
	maxBody     = 1 << 20
	maxDocument = 8 << 20
)

// Bans is who knows what is banned, and changes it. Its methods may be called by several goroutines at
// once. An error that is a [Problem] is answered as it is, any other with status 500.
type Bans interface {
	// Bans lists what is banned now.
	Bans(ctx context.Context) ([]Ban, error)
	// Ban drops all packets of a prefix for a while.
	Ban(ctx context.Context, r BanRequest) (Banned, error)
	// Unban lifts the ban of a prefix, as the client wrote it.
	Unban(ctx context.Context, prefix string) error
}

// BanRequest is the body of POST /v1/bans.
type BanRequest struct {
	// Prefix is an address or a prefix.
	Prefix string `json:"prefix"`
	// For is a duration as in the configuration file, such as "10m" or "1d12h".
	For string `json:"for"`
	// Force bans even what the machine can hardly do without, such as its own gateway.
	Force bool `json:"force,omitempty"`
}

// Ban is a timed ban.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	// Until is when the ban ends, if the machine is not suspended until then.
	Until time.Time     `json:"until"`
	Left  time.Duration `json:"left_ns"`
	// Effective is how long packets are dropped: Left, or longer as a wider ban is.
	Effective time.Duration `json:"effective_ns"`
}

// Banned is the answer of POST /v1/bans.
type Banned struct {
	Ban
	// Replaced is what was left of the ban of the same prefix before; 0 if there was none.
	Replaced time.Duration `json:"replaced_ns"`
}

// bansBody is the answer of GET /v1/bans.
type bansBody struct {
	Bans []Ban `json:"bans"`
}

// access says who may make a request over TCP. The socket's own mode says who may over the socket.
type access int

const (
	forAll  access = iota
	guarded        // who shows the admin token: it changes state, or tells addresses
)

// route is one line of what a server answers.
type route struct {
	pattern string // of net/http.ServeMux
	access  access
	handler http.Handler
}

func banRoutes(b Bans) []route {
	return []route{
		{"GET /v1/bans", guarded, answer(func(r *http.Request) (any, error) {
			all, err := b.Bans(r.Context())
			return bansBody{append([]Ban{}, all...)}, err
		})},
		{"POST /v1/bans", guarded, answer(func(r *http.Request) (any, error) {
			var body BanRequest
			if err := decode(r, &body, maxBody); err != nil {
				return nil, err
			}
			return b.Ban(r.Context(), body)
		})},
		{"DELETE /v1/bans/{prefix...}", guarded, answer(func(r *http.Request) (any, error) {
			return nil, b.Unban(r.Context(), r.PathValue("prefix"))
		})},
	}
}

// answer sends what do returns as JSON: 204 for nothing, a problem for an error.
func answer(do func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := do(r)
		switch {
		case err != nil:
			writeProblem(w, err)
		case body == nil:
			setHeaders(w, "application/json")
			w.WriteHeader(http.StatusNoContent)
		default:
			setHeaders(w, "application/json")
			_ = json.NewEncoder(w).Encode(body) // a client that went away needs no answer
		}
	})
}

// decode reads a body of at most so many bytes that has one JSON value of just the fields that to has.
func decode(r *http.Request, to any, most int64) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, most))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return err
		}
		return NewProblem(http.StatusBadRequest, "the body: something follows the JSON value, which ends at byte %d", d.InputOffset())
	}
	return nil
}

// badBody says what is wrong with a body, and where.
func badBody(err error) error {
	var syntax *json.SyntaxError
	var field *policy.FieldError
	var kind *json.UnmarshalTypeError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, io.EOF):
		return NewProblem(http.StatusBadRequest, "the body is empty, and has to be JSON")
	case errors.As(err, &syntax):
		return NewProblem(http.StatusBadRequest, "the body is not JSON at byte %d: %v", syntax.Offset, err)
	case errors.As(err, &field):
		p := NewProblem(http.StatusBadRequest, "the body does not fit")
		p.Errors = []Fault{fieldFault(field)}
		return p
	case errors.As(err, &kind):
		p := NewProblem(http.StatusBadRequest, "the body does not fit")
		p.Errors = []Fault{{Field: kind.Field, Problem: fmt.Sprintf("want %s, got a JSON %s", kind.Type, kind.Value)}}
		return p
	}
	return NewProblem(http.StatusBadRequest, "the body: %v", err)
}

func fieldFault(err *policy.FieldError) Fault {
	if text, ok := errors.AsType[*policy.TextError](err.Err); ok {
		return Fault{Field: err.Path, Problem: text.Problem, Mend: text.Mend}
	}
	return Fault{Field: err.Path, Problem: err.Err.Error()}
}

// StateDirHeader names the state directory that a client means. A daemon of another one refuses the
// request: several may run, and a socket be mistaken.
const StateDirHeader = "Weir-State-Directory"

// meant lets requests through that are meant for this daemon.
func meant(stateDir string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := r.Header.Get(StateDirHeader); want != "" && want != stateDir {
			writeProblem(w, NewProblem(http.StatusMisdirectedRequest,
				"this daemon works on the state directory %s, not on %s (name the runtime directory of the other one with --run-dir)", stateDir, want))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guard lets a request through that shows the token.
func guard(token func() Token, log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := token()
		switch given := bearer(r); {
		case !want.set:
			writeProblem(w, NewProblem(http.StatusForbidden,
				"this is served on the unix socket of weir run alone (or set server.admin_token_file)"))
		case !want.matches(given):
			if given != "" {
				log.Warn("a request with a wrong admin token was refused", "call", r.Pattern)
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="weir"`)
			writeProblem(w, NewProblem(http.StatusUnauthorized, "this needs the token of server.admin_token_file (Authorization: Bearer TOKEN)"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}
