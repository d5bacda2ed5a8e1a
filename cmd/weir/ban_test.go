package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/server"
)

// fakeBanner knows what was asked of it.
type fakeBanner struct {
	banned map[netip.Prefix]time.Duration
	err    error
}

var _ banner = (*fakeBanner)(nil)

func (f *fakeBanner) Ban(prefix netip.Prefix, duration time.Duration) (time.Duration, error) {
	was := f.banned[prefix]
	if f.err == nil {
		f.banned[prefix] = duration
	}
	return was, f.err
}

func (f *fakeBanner) Unban(netip.Prefix) error { return f.err }

func (f *fakeBanner) Bans() ([]loader.Ban, error) { return nil, f.err }

func noGateways() ([]netip.Addr, error) { return nil, nil }

// statusOf is that of a problem.
func statusOf(t *testing.T, err error) int {
	t.Helper()
	p, ok := errors.AsType[*server.Problem](err)
	if !ok {
		t.Fatalf("%v is no problem", err)
	}
	return p.Status
}

func TestBanOrders(t *testing.T) {
	t.Parallel()
	gateways := func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1")}, nil
	}
	for _, c := range []struct {
		request server.BanRequest
		status  int // 0: it is banned
		text    string
	}{
		{server.BanRequest{Prefix: "203.0.113.7", For: "10m"}, 0, ""},
		{server.BanRequest{Prefix: "2001:db8::/48", For: "365d"}, 0, ""},
		{server.BanRequest{Prefix: "203.0.113.7", For: "365d1s"}, 400, "at most 365d"},
		{server.BanRequest{Prefix: "203.0.113.7", For: "0s"}, 400, "longer than 0"},
		{server.BanRequest{Prefix: "203.0.113.7", For: "-1s"}, 400, "minus"},
		{server.BanRequest{Prefix: "203.0.113.7/24", For: "1h"}, 400, "write 203.0.113.0/24"},
		{server.BanRequest{Prefix: "somebody", For: "soon"}, 400, "prefix: want an address"},
		{server.BanRequest{Prefix: "0.0.0.0/0", For: "1h"}, 409, "every address"},
		{server.BanRequest{Prefix: "::/0", For: "1h"}, 409, "every address"},
		{server.BanRequest{Prefix: "0.0.0.0/0", For: "1h", Force: true}, 0, ""},
		{server.BanRequest{Prefix: "192.0.2.1", For: "1h"}, 409, "default gateway"},
		{server.BanRequest{Prefix: "192.0.0.0/16", For: "1h"}, 409, "192.0.2.1"},
		{server.BanRequest{Prefix: "fe80::/10", For: "1h"}, 409, "default gateway"},
		{server.BanRequest{Prefix: "192.0.2.1", For: "1h", Force: true}, 0, ""},
	} {
		f := &fakeBanner{banned: map[netip.Prefix]time.Duration{}}
		banned, err := ban(f, c.request, gateways)
		if c.status == 0 {
			if err != nil || len(f.banned) != 1 || f.banned[banned.Prefix] != banned.Left || time.Until(banned.Until) > banned.Left {
				t.Errorf("%+v: %+v, %v, banned %v", c.request, banned, err, f.banned)
			}
			continue
		}
		if got := statusOf(t, err); got != c.status || !strings.Contains(err.Error(), c.text) || len(f.banned) != 0 {
			t.Errorf("%+v: %d %v, banned %v; want %d and %q", c.request, got, err, f.banned, c.status, c.text)
		}
	}
}

func TestBanProblems(t *testing.T) {
	t.Parallel()
	request := server.BanRequest{Prefix: "203.0.113.7", For: "1h"}
	for err, want := range map[error]int{
		loader.ErrTooManyBans: http.StatusConflict, loader.ErrNothingAttached: http.StatusConflict, loader.ErrNotBanned: http.StatusNotFound,
	} {
		f := &fakeBanner{err: err}
		if _, got := ban(f, request, noGateways); statusOf(t, got) != want {
			t.Errorf("ban: %v, want status %d", got, want)
		}
		if got := unban(f, "203.0.113.7"); statusOf(t, got) != want {
			t.Errorf("unban: %v, want status %d", got, want)
		}
	}
	if err := unban(&fakeBanner{}, "203.0.113.7/8"); statusOf(t, err) != http.StatusBadRequest {
		t.Errorf("unban of what can't be: %v", err)
	}
	failing := func() ([]netip.Addr, error) { return nil, unix.EPERM }
	f := &fakeBanner{banned: map[netip.Prefix]time.Duration{}}
	if _, err := ban(f, request, failing); !errors.Is(err, unix.EPERM) {
		t.Errorf("ban without knowing the gateways: %v, want EPERM", err)
	}
}

// TestBanCommands bans without a daemon, in the kernel's maps.
func TestBanCommands(t *testing.T) {
	s := newSite(t)
	if r := s.weir(t, "ban", "203.0.113.7", "--for", "1h"); r.code != exitFailure || !strings.Contains(r.err, "nothing is attached") {
		t.Errorf("ban before anything is attached: %+v", r)
	}
	if out := s.ok(t, "bans"); out != "nothing is banned\n" {
		t.Errorf("bans before anything is attached: %q", out)
	}
	s.attach(t, testConfig)
	if out := s.ok(t, "ban", "203.0.113.7", "--for", "1h"); !strings.HasPrefix(out, "203.0.113.7/32 is banned for 1h, until ") {
		t.Errorf("ban: %q", out)
	}
	if out := s.ok(t, "ban", "203.0.113.7", "--for", "10m"); !strings.Contains(out, "in place of a ban that would have lasted ") {
		t.Errorf("ban again: %q", out)
	}
	s.ok(t, "ban", "203.0.113.0/24", "--for", "2d")
	out := s.ok(t, "bans")
	if !strings.Contains(out, "203.0.113.7/32") || !strings.Contains(out, "a wider ban lasts 1d23h") {
		t.Errorf("bans: %s", out)
	}
	var v bansView
	s.json(t, &v, "bans")
	if len(v.Bans) != 2 || v.Bans[0].Prefix.String() != "203.0.113.0/24" || v.Bans[1].Effective < 47*time.Hour {
		t.Errorf("bans: %+v", v.Bans)
	}
	if out := s.ok(t, "unban", "203.0.113.7"); out != "203.0.113.7/32 is not banned any more\n" {
		t.Errorf("unban: %q", out)
	}
	if r := s.weir(t, "unban", "203.0.113.7"); r.code != exitFailure || !strings.Contains(r.err, "weir unban 203.0.113.0/24") {
		t.Errorf("unban of a part: %+v", r)
	}
	for _, args := range [][]string{
		{"ban", "203.0.113.7"}, {"ban", "203.0.113.7", "--for", "soon"}, {"ban", "--for", "1h"}, {"unban", "203.0.113.7/8"}, {"bans", "x"},
	} {
		if r := s.weir(t, args...); r.code != exitUsage {
			t.Errorf("weir %v: %+v, want exit code %d", args, r, exitUsage)
		}
	}
	s.ok(t, "unban", "203.0.113.0/24")
}

// TestBanOfTheGateway asks the host's real routes.
func TestBanOfTheGateway(t *testing.T) {
	s := newSite(t)
	s.attach(t, testConfig)
	gateway := s.pair.A.IPv4.AsSlice()
	index, err := s.pair.B.Index()
	if err != nil {
		t.Fatal(err)
	}
	err = s.pair.B.Do(func() error {
		_, all, err := net.ParseCIDR("0.0.0.0/0")
		return errors.Join(err, netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: all, Gw: gateway}))
	})
	if err != nil {
		t.Fatal(err)
	}
	address := s.pair.A.IPv4.String()
	if r := s.weir(t, "ban", address, "--for", "1h"); r.code != exitFailure || !strings.Contains(r.err, "default gateway") {
		t.Errorf("ban of the gateway: %+v", r)
	}
	s.ok(t, "ban", address, "--for", "1h", "--force")
}

// Scripts rely on these names.
func TestBansFields(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := server.Ban{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: until, Left: 1, Effective: 2}
	got, err := json.Marshal(bansView{Bans: []server.Ban{b}})
	const want = `{"bans":[{"prefix":"192.0.2.0/24","until":"2026-01-02T03:04:05Z","left_ns":1,"effective_ns":2}]}`
	if err != nil || !bytes.Equal(got, []byte(want)) {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
