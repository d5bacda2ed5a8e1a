package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

// checkFlags are those of weir check.
type checkFlags struct {
	request  requestFlags
	limit    uint64
	window   string
	hits     uint64
	exitCode bool
}

func newCheckCommand(e *env) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [KEY]",
		Short: "Ask the daemon whether one request of layer 7 may pass, and charge it",
		Long: `Ask weir run whether one request may pass, and charge it if so: against a limit of its own for KEY, with
--limit and --window, or else against the policies that apply to the request which the other flags
describe. To the policies KEY stands for the client where --ip is not given, and for {key} in a template.

  --hits 0   asks what one more hit would get, and charges nothing

A denial is an answer, so that the exit code is 0; with --exit-code it is 1, as that of every failure. Scripts that
have to tell the two apart read .allowed of -o json, which a failure does not print.`,
		Example: `  weir check user:123 --limit 100 --window 1h
  weir check --ip 203.0.113.7 --method POST --endpoint /login
  weir check --user alice --role premium --metadata tenant=acme --hits 5 -o json
  printenv API_KEY | weir check --api-key-file - --endpoint /api/v2/orders --exit-code`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("want one key or none (see: %s --help)", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(e, cmd, args)
			if err != nil {
				return err
			}
			return check(cmd.Context(), e, q, f.exitCode)
		},
	}
	f.request.add(cmd)
	flags := cmd.Flags()
	flags.Uint64Var(&f.limit, "limit", 0, "tokens that KEY is given in each window")
	flags.StringVar(&f.window, "window", "", "the time of --limit, such as 1s, 10m or 1d")
	flags.Uint64Var(&f.hits, "hits", 1, "tokens that the request costs")
	flags.BoolVar(&f.exitCode, "exit-code", false, "exit with 1 if the request is denied")
	return cmd
}

// checkQuery is the body of POST /v1/check.
type checkQuery struct {
	Key     string        `json:"key,omitempty"`
	Limit   *uint64       `json:"limit,omitempty"` // 0 is the daemon's to refuse
	Window  string        `json:"window,omitempty"`
	Hits    uint64        `json:"hits"`
	Context *checkContext `json:"context,omitempty"`
}

// checkContext is who asks, in a checkQuery.
type checkContext struct {
	ClientIP string            `json:"client_ip,omitempty"`
	Method   string            `json:"method,omitempty"`
	Endpoint string            `json:"endpoint,omitempty"`
	UserID   string            `json:"user_id,omitempty"`
	UserRole string            `json:"user_role,omitempty"`
	APIKey   string            `json:"api_key,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func contextOf(r *policy.RequestContext) *checkContext {
	c := &checkContext{
		Method: r.Method, Endpoint: r.Endpoint, UserID: r.UserID, UserRole: r.UserRole, APIKey: r.APIKey, Metadata: r.Metadata,
	}
	if r.ClientIP != (netip.Addr{}) {
		c.ClientIP = r.ClientIP.String()
	}
	return c
}

// query understands the command line.
func (f *checkFlags) query(e *env, cmd *cobra.Command, args []string) (checkQuery, error) {
	q := checkQuery{Hits: f.hits}
	if len(args) == 1 {
		q.Key = args[0]
	}
	request, own := given(cmd, requestFlagNames...), given(cmd, "limit", "window")
	switch {
	case len(request) > 0 && len(own) > 0:
		return q, usagef("%s asks by a limit of its own, and %s by the policies: want the one or the other", own[0], request[0])
	case len(own) == 0 && len(request) == 0 && q.Key == "":
		return q, usagef("want a key with --limit and --window, or a request, such as --ip 203.0.113.7 --endpoint /login (see: %s --help)", cmd.CommandPath())
	case len(own) == 1:
		return q, usagef("want both --limit and --window")
	case len(own) == 2 && q.Key == "":
		return q, usagef("want the key that --limit is for, such as: weir check user:123 --limit 100 --window 1h")
	case len(own) == 2:
		q.Limit, q.Window = &f.limit, f.window
		if _, err := policy.ParseDuration(f.window); err != nil {
			return q, usagef("--window %s: %w", f.window, err)
		}
		return q, nil
	}
	r, err := f.request.context(e.in)
	q.Context = contextOf(&r)
	return q, err
}

// errDenied is the failure that --exit-code makes of a denial.
var errDenied = errors.New("the request is denied")

// checkView is the JSON of weir check. Scripts read it: add fields, rename none.
type checkView struct {
	server.CheckAnswer
	// Code says why the request is denied.
	Code string `json:"code,omitempty"`
}

func check(ctx context.Context, e *env, q checkQuery, exitCode bool) error {
	c, err := e.needDaemon(ctx)
	if err != nil {
		return err
	}
	v, err := c.check(ctx, q)
	if err != nil {
		return err
	}
	if err := e.show(v, func(p *page) { writeCheck(p, &v, time.Now()) }); err != nil {
		return err
	}
	if exitCode && !v.Allowed {
		return errDenied
	}
	return nil
}

// check asks for a decision. A denial is no error.
func (c *client) check(ctx context.Context, q checkQuery) (v checkView, err error) {
	const path = "/v1/check"
	a, err := c.send(ctx, http.MethodPost, path, q)
	if err != nil {
		return v, err
	}
	if (a.status != http.StatusTooManyRequests && a.status != http.StatusForbidden) || a.contentType != "application/json" {
		if err := a.problem(c, http.MethodPost, path); err != nil {
			return v, err
		}
		return v, a.read(&v)
	}
	var denied middleware.ErrorBody
	if err := a.read(&denied); err != nil {
		return v, err
	}
	d := denied.Error.Details
	return checkView{Code: denied.Error.Code, CheckAnswer: server.CheckAnswer{
		Limit: d.Limit, RetryAfter: d.RetryAfterSeconds, Policy: d.Policy, WindowSeconds: float64(d.WindowSeconds),
	}}, nil
}

func writeCheck(p *page, v *checkView, now time.Time) {
	verdict := p.paint(green, "allowed")
	if !v.Allowed {
		verdict = p.paint(red, "denied")
	}
	p.printf("%s%s\n", verdict, decidedBy(p, v))
	if v.Shadow != "" {
		p.printf("%s\n", p.paint(yellow, fmt.Sprintf("%s, which is in shadow, would have denied it", v.Shadow)))
	}
	if v.Limit == 0 {
		return
	}
	seconds := func(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
	g := fields("  ")
	g.field("limit", "%s in %s", thousands(v.Limit), policy.FormatDuration(seconds(v.WindowSeconds)))
	if v.Allowed {
		g.field("remaining", "%s", thousands(v.Remaining))
		full := "within a second" // what is told is rounded up to one
		if left := time.Unix(v.Reset, 0).Sub(now); left > time.Second {
			full = "in " + span(left)
		}
		g.field("full again", "%s", full)
	} else {
		g.field("retry", "in %s", span(seconds(float64(v.RetryAfter))))
	}
	if v.Delay > 0 {
		g.field("delay", "%s: wait that long, then go on", span(seconds(v.Delay)))
	}
	if v.Lease != "" {
		g.field("lease", "%s: POST it to /v1/release when the request has ended", v.Lease)
	}
	g.write(p)
}

// decidedBy says what decided.
func decidedBy(p *page, v *checkView) string {
	switch {
	case v.Code == middleware.CodeDenied:
		return ": the client is in deny"
	case v.List == policy.ListAllow:
		return ": the client is in allow"
	case v.Policy == limiter.OwnPolicy:
		return ""
	case v.Policy != "":
		return " by " + p.paint(bold, v.Policy)
	case v.Limit == 0:
		return ": no policy that enforces applies"
	}
	return ""
}
