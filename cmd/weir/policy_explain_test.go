package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

const explainConfig = `policies:
  - {name: per-client, scope: per_ip, limit: 10, window: 1s}
  - {name: dns, scope: per_ip, limit: 20, window: 1s, priority: 5, replaces: [per-client], match: {protocol: udp, ports: [53], interfaces: [eth0]}}
  - {name: web, scope: per_ip, limit: 30, window: 1s, on_fragment: drop, match: {protocol: tcp, ports: [80, 8000-8100]}}
  - {name: out, scope: global, layer: kernel, limit: 40, window: 1s, mode: shadow, match: {direction: egress}}
  - {name: "off", scope: per_ip, limit: 1, window: 1s, mode: "off"}
allow: [192.0.2.1]
deny: [192.0.2.0/24]
`

func TestExplainFile(t *testing.T) {
	file := writeConfig(t, explainConfig)
	for _, c := range []struct {
		args    string
		verdict string
		text    string // in the answer for people
		effects string // of the policies that do anything
	}{
		{"--src 203.0.113.7 --proto udp --dport 53 --iface eth0", "limited", "port 53, ingress of eth0: it passes if dns admits it", "dns charge"},
		{"--src 203.0.113.7 --proto udp --dport 53 --iface eth1", "limited", "interface eth1 is not eth0", "per-client charge"},
		{"--src 203.0.113.7 --proto tcp --dport 8001 --iface eth0", "limited", "per-client and web admit it", "per-client charge, web charge"},
		{"--src 203.0.113.7 --proto 6 --fragment --iface eth0", "drop", "as web wants", "per-client charge, web drop"},
		{"--src 2001:db8::7 --proto icmpv6 --iface eth0 --direction egress", "limited", "icmpv6, egress", "per-client charge, out charge"},
		{"--src 192.0.2.1 --proto icmp --iface eth0", "pass", "it passes: 192.0.2.1/32 is in allow", ""},
		{"--src 192.0.2.2 --proto icmp --iface eth0", "drop", "it is dropped: 192.0.2.0/24 is in deny", ""},
	} {
		args := append([]string{"policy", "explain", "-c", file}, strings.Fields(c.args)...)
		r := weir(t, args...)
		if r.code != exitOK || !strings.Contains(r.out, c.text) {
			t.Errorf("%s: %+v, want %q", c.args, r, c.text)
		}
		r = weir(t, append(args, "-o", "json")...)
		var v explainView
		if err := json.Unmarshal([]byte(r.out), &v); err != nil {
			t.Fatalf("%s: %v: %+v", c.args, err, r)
		}
		var effects []string
		for _, p := range v.Policies {
			if p.Effect != policy.EffectNone {
				effects = append(effects, p.Policy+" "+string(p.Effect))
			} else if p.Reason == "" {
				t.Errorf("%s: %s does nothing for no reason", c.args, p.Policy)
			}
		}
		if got := strings.Join(effects, ", "); v.Verdict != c.verdict || got != c.effects || len(v.Policies) != 5 {
			t.Errorf("%s: %s by %q, want %s by %q", c.args, v.Verdict, got, c.verdict, c.effects)
		}
	}
}

func TestExplainUsage(t *testing.T) {
	file := writeConfig(t, explainConfig)
	for args, want := range map[string]string{
		"": "or a request, such as --ip",
		"--src x --proto tcp --dport 1 --iface eth0":                           "is not a key",
		"--src 192.0.2.1 --proto xtp --iface eth0":                             "--proto xtp: want tcp",
		"--src 192.0.2.1 --proto tcp --iface eth0":                             "say which with --dport",
		"--src 192.0.2.1 --proto icmp --dport 1 --iface eth0":                  "has no ports",
		"--src 192.0.2.1 --proto tcp --dport 1 --fragment --iface eth0":        "--fragment has no --dport",
		"--src 192.0.2.1 --proto tcp --dport 99999 --iface eth0":               "dport",
		"--src 192.0.2.1 --proto tcp --dport 1 --iface eth0 --direction along": "want ingress or egress",
	} {
		r := weir(t, append([]string{"policy", "explain", "-c", file}, strings.Fields(args)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want exit code %d and %q", args, r, exitUsage, want)
		}
	}
}

// TestExplainLoaded explains what is in the kernel, the bans included.
func TestExplainLoaded(t *testing.T) {
	s := newSite(t)
	packet := []string{"policy", "explain", "--src", "203.0.113.7", "--proto", "udp", "--dport", "53", "--iface", s.pair.B.Interface}
	if r := s.weir(t, packet...); r.code != exitFailure {
		t.Errorf("explain with nothing attached: %+v", r)
	}
	s.attach(t, testConfig+"allow: [203.0.113.9/32]\ndeny: [198.51.100.0/24]\n")
	if out := s.ok(t, packet...); !strings.Contains(out, "it passes if per-client admits it") || !strings.Contains(out, "(in shadow)") {
		t.Errorf("explain:\n%s", out)
	}
	s.ok(t, "ban", "203.0.113.0/24", "--for", "1h")
	if out := s.ok(t, packet...); !strings.Contains(out, "it is dropped: 203.0.113.0/24 is banned") {
		t.Errorf("explain of what is banned:\n%s", out)
	}
	for source, want := range map[string]string{
		"203.0.113.9":  "it passes: 203.0.113.9/32 is in allow", // though it is banned
		"198.51.100.7": "it is dropped: 198.51.100.0/24 is in deny",
	} {
		if out := s.ok(t, append(packet, "--src", source)...); !strings.Contains(out, want) {
			t.Errorf("explain of %s: no %q in:\n%s", source, want, out)
		}
	}
	r := s.weir(t, append(packet, "--direction", "egress")...)
	if r.code != exitFailure || !strings.Contains(r.err, "weir is not on "+s.pair.B.Interface+" for egress") {
		t.Errorf("explain of where weir is not: %+v", r)
	}
}
