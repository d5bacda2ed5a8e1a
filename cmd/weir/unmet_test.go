package main

import (
	"strings"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

func TestUnmet(t *testing.T) {
	t.Parallel()
	with := func(name string, m policy.Match) policy.Policy {
		p := perIP(name, 1)
		p.Match = m
		return p.WithDefaults()
	}
	off := with("off", policy.Match{Direction: policy.DirectionEgress})
	off.Mode = policy.ModeOff
	policies := []policy.Policy{
		with("any", policy.Match{}), with("in", policy.Match{Direction: policy.DirectionIngress}), off,
		with("out", policy.Match{Direction: policy.DirectionEgress}),
		with("eth7", policy.Match{Interfaces: []string{"eth7", "eth8"}}),
		with("out-of-eth0", policy.Match{Interfaces: []string{"eth0"}, Direction: policy.DirectionEgress}),
	}
	eth0, eth0out := placeOf("eth0", "xdp"), placeOf("eth0", "tc-egress")
	for _, c := range []struct {
		places []policy.Place
		want   string
	}{
		{nil, ""},
		{[]policy.Place{eth0}, "out: it is for egress, and no interface has hook tc-egress; " +
			"eth7: it is for eth7 or eth8, and weir is on none of them; out-of-eth0: it is for egress of eth0, which has no hook tc-egress"},
		{[]policy.Place{eth0, eth0out}, "eth7: it is for eth7 or eth8, and weir is on none of them"},
		{[]policy.Place{eth0out, placeOf("eth7", "xdp")}, ""},
	} {
		var got []string
		for _, u := range unmet(policies, c.places) {
			got = append(got, u.Policy+": "+u.Why)
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%v: %s, want %s", c.places, text, c.want)
		}
	}
}

// attach and validate tell what has no effect, and what is charged twice.
func TestUnmetIsTold(t *testing.T) {
	s := newSite(t)
	const policies = `table: {entries: 1024}
policies:
  - {name: in, scope: per_ip, limit: 10, window: 10d}
  - {name: out, scope: per_ip, limit: 10, window: 10d, match: {direction: egress}}
`
	const warning = "policy out meets no packet: it is for egress, and no interface has hook tc-egress\n"
	file := writeConfig(t, policies)
	if r := s.weir(t, "attach", "eth0", "-c", file); r.code != exitOK || r.err != "weir: "+warning {
		t.Errorf("attach: %+v", r)
	}
	if r := s.weir(t, "attach", "eth0", "-c", file, "--hook", "tc-egress", "--mode", "clsact"); r.code != exitOK || r.err != "" {
		t.Errorf("attach to the other hook: %+v", r)
	}
	if r := s.weir(t, "attach", "eth0", "-c", file, "--hook", "tc-ingress", "--mode", "clsact"); r.code != exitOK ||
		r.err != "weir: every packet that comes in by eth0 is charged at xdp and at tc-ingress (keep one: weir detach eth0 --hook xdp)\n" {
		t.Errorf("attach to both hooks on the way in: %+v", r)
	}
	if out := s.ok(t, "policy", "validate", file); strings.Contains(out, "meets no packet") {
		t.Errorf("validate without interfaces: %s", out)
	}
	if out := s.ok(t, "policy", "validate", writeConfig(t, "interfaces: [{name: eth0}]\n"+policies)); !strings.HasSuffix(out, "\n"+warning) {
		t.Errorf("validate: %s", out)
	}
}
