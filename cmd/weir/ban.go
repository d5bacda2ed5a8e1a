package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

func newBanCommand(e *env) *cobra.Command {
	var r server.BanRequest
	cmd := &cobra.Command{
		Use:   "ban ADDR[/LEN] --for DURATION",
		Short: "Drop every packet of an address or a network for a while",
		Long: `Drop every packet of an address or a network for a while, on every interface that weir is attached to. The
ban ends by itself, in the kernel, whether or not a daemon runs. Another ban of the same prefix takes its
place, be it longer or shorter. What the file allows is not dropped. Bans are forgotten when weir is
detached from its last interface.`,
		Example: "  weir ban 203.0.113.7 --for 10m\n  weir ban 2001:db8::/48 --for 1d12h",
		Args:    exactArgs(1, "one address or prefix"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Prefix = args[0]
			if r.For == "" {
				return usagef("want a duration: --for 10m, for example")
			}
			if _, err := parseBan(r); err != nil {
				return usageError{err}
			}
			return banCommand(cmd.Context(), e, r)
		},
	}
	cmd.Flags().StringVar(&r.For, "for", "", "how long, such as 30s, 10m or 1d12h; at most 365d")
	cmd.Flags().BoolVar(&r.Force, "force", false, "ban even the default gateway, or every address there is")
	return cmd
}

func newUnbanCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "unban ADDR[/LEN]",
		Short:   "Lift a ban",
		Long:    "Lift the ban of an address or a network, which has to be named as it was banned: a part of a ban can't be lifted.",
		Example: "  weir unban 203.0.113.7",
		Args:    exactArgs(1, "one address or prefix"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := policy.ParsePrefix(args[0])
			if err != nil {
				return usageError{err}
			}
			err = e.throughDaemon(cmd.Context(),
				func(c *client) error {
					return c.ask(cmd.Context(), http.MethodDelete, "/v1/bans/"+(&url.URL{Path: prefix.String()}).EscapedPath(), nil, nil)
				},
				func(d *loader.StateDir) error { return unban(d, args[0]) })
			if err != nil {
				return err
			}
			return e.show(map[string]string{"unbanned": prefix.String()}, func(p *page) { p.printf("%s is not banned any more\n", prefix) })
		},
	}
}

func newBansCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "bans",
		Short:   "List what is banned",
		Example: "  weir bans\n  weir bans -o json | jq -r '.bans[].prefix'",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return bansCommand(e) },
	}
}

// throughDaemon lets a daemon make a change in the kernel, if one answers, as it holds the state directory.
// Without one, or beside one that limits requests alone, the change is made here.
func (e *env) throughDaemon(ctx context.Context, ask func(*client) error, here func(*loader.StateDir) error) error {
	c, err := e.daemon(ctx)
	if err != nil {
		return err
	}
	if c == nil {
		return e.change(here)
	}
	state, err := c.state(ctx)
	if err != nil {
		return err
	}
	if state.RequestsOnly {
		return e.change(here)
	}
	return ask(c)
}

func banCommand(ctx context.Context, e *env, r server.BanRequest) error {
	var banned server.Banned
	err := e.throughDaemon(ctx,
		func(c *client) error { return c.ask(ctx, http.MethodPost, "/v1/bans", r, &banned) },
		func(d *loader.StateDir) (err error) {
			banned, err = ban(d, r, defaultGateways)
			return err
		})
	if err != nil {
		return err
	}
	return e.show(banned, func(p *page) {
		p.printf("%s is banned for %s, until %s\n", banned.Prefix, policy.FormatDuration(banned.Left), localTime(banned.Until))
		if banned.Replaced > 0 {
			p.printf("in place of a ban that would have lasted %s\n", span(banned.Replaced))
		}
	})
}

// bansView is the JSON of weir bans. Scripts read it: add fields, rename none.
type bansView struct {
	Bans []server.Ban `json:"bans"`
}

// bansCommand reads the kernel's maps, which needs no daemon.
func bansCommand(e *env) error {
	v := bansView{Bans: []server.Ban{}}
	d, err := e.open()
	switch {
	case errors.Is(err, loader.ErrNothingAttached):
	case err != nil:
		return err
	default:
		all, err := listBans(d)
		if err := errors.Join(err, d.Close()); err != nil {
			return err
		}
		v.Bans = append(v.Bans, all...)
	}
	return e.show(v, func(p *page) { writeBans(p, v.Bans) })
}

func writeBans(p *page, bans []server.Ban) {
	if len(bans) == 0 {
		p.printf("nothing is banned\n")
		return
	}
	g := grid{columns: columns("PREFIX", ">LEFT", "UNTIL", "")}
	for _, b := range bans {
		note := ""
		if b.Effective > b.Left {
			note = "a wider ban lasts " + span(b.Effective)
		}
		g.add(text(b.Prefix.String()), text(span(b.Left)), text(localTime(b.Until)), cell{note, faint})
	}
	g.write(p)
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
