package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

// banOrder is a ban that somebody asks for, understood.
type banOrder struct {
	prefix   netip.Prefix
	duration time.Duration
	force    bool
}

// parseBan understands a request. What is wrong with it is a [server.Problem].
func parseBan(r server.BanRequest) (banOrder, error) {
	o := banOrder{force: r.Force}
	bad := server.NewProblem(http.StatusBadRequest, "the ban does not make sense")
	var err error
	if o.prefix, err = policy.ParsePrefix(r.Prefix); err != nil {
		bad.Errors = append(bad.Errors, faultOf("prefix", err))
	}
	o.duration, err = policy.ParseDuration(r.For)
	switch {
	case err != nil:
		bad.Errors = append(bad.Errors, faultOf("for", err))
	case o.duration <= 0 || o.duration > loader.MaxBanTime:
		bad.Errors = append(bad.Errors, server.Fault{
			Field: "for", Problem: fmt.Sprintf("%s is not longer than 0 and at most %s", policy.FormatDuration(o.duration), policy.FormatDuration(loader.MaxBanTime)),
			Mend: "write another duration; what is to last goes into the file, under deny",
		})
	}
	if bad.Errors != nil {
		return o, bad
	}
	return o, nil
}

// faultOf takes apart what is wrong with a text.
func faultOf(field string, err error) server.Fault {
	if text, ok := errors.AsType[*policy.TextError](err); ok {
		return server.Fault{Field: field, Problem: text.Problem, Mend: text.Mend}
	}
	return server.Fault{Field: field, Problem: err.Error()}
}

// check refuses bans by which a slip would cut the machine off. gateways are its default ones.
func (o banOrder) check(gateways []netip.Addr) error {
	if o.force {
		return nil
	}
	if o.prefix.Bits() == 0 {
		return server.NewProblem(http.StatusConflict, "%s is every address there is (repeat it with force if that is meant)", o.prefix)
	}
	for _, g := range gateways {
		if o.prefix.Contains(g) {
			return server.NewProblem(http.StatusConflict,
				"%s covers %s, this machine's default gateway: its own packets, such as neighbour advertisements and ICMP errors, would be dropped (repeat it with force if that is meant)", o.prefix, g)
		}
	}
	return nil
}

// defaultGateways lists those of this thread's network namespace, of all that have one.
func defaultGateways() ([]netip.Addr, error) {
	var all []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		// Filtered by "no destination": the default ones.
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_DST)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("look up the default gateway: %w", err)
		}
		for _, r := range routes {
			for _, hop := range append([]*netlink.NexthopInfo{{Gw: r.Gw}}, r.MultiPath...) {
				if a, ok := netip.AddrFromSlice(hop.Gw); ok {
					all = append(all, a.Unmap())
				}
			}
		}
	}
	return all, nil
}

// banner is what can ban.
type banner interface {
	Ban(prefix netip.Prefix, duration time.Duration) (replaced time.Duration, err error)
	Unban(prefix netip.Prefix) error
	Bans() ([]loader.Ban, error)
}

var _ banner = (*loader.StateDir)(nil)

// ban carries a request out.
func ban(b banner, r server.BanRequest, gateways func() ([]netip.Addr, error)) (server.Banned, error) {
	o, err := parseBan(r)
	if err != nil {
		return server.Banned{}, err
	}
	known, err := gateways()
	if err != nil && !o.force {
		return server.Banned{}, err
	}
	if err := o.check(known); err != nil {
		return server.Banned{}, err
	}
	replaced, err := b.Ban(o.prefix, o.duration)
	if err != nil {
		return server.Banned{}, banProblem(err)
	}
	now := time.Now()
	banned := server.Ban{Prefix: o.prefix, Until: now.Add(o.duration), Left: o.duration, Effective: o.duration}
	return server.Banned{Ban: banned, Replaced: replaced}, nil
}

// unban lifts a ban, as somebody wrote its prefix.
func unban(b banner, text string) error {
	prefix, err := policy.ParsePrefix(text)
	if err != nil {
		bad := server.NewProblem(http.StatusBadRequest, "there can be no such ban")
		bad.Errors = []server.Fault{faultOf("prefix", err)}
		return bad
	}
	return banProblem(b.Unban(prefix))
}

// listBans lists what is banned; nothing while nothing is attached.
func listBans(b banner) ([]server.Ban, error) {
	all, err := b.Bans()
	if errors.Is(err, loader.ErrNothingAttached) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	bans := make([]server.Ban, len(all))
	for i, one := range all {
		bans[i] = server.Ban{Prefix: one.Prefix, Until: now.Add(one.Left), Left: one.Left, Effective: one.Effective}
	}
	return bans, nil
}

// banProblem gives an error the status that a client expects.
func banProblem(err error) error {
	switch {
	case errors.Is(err, loader.ErrNotBanned):
		return server.NewProblem(http.StatusNotFound, "%v", err)
	case errors.Is(err, loader.ErrTooManyBans), errors.Is(err, loader.ErrNothingAttached):
		return server.NewProblem(http.StatusConflict, "%v", err)
	}
	return err
}
