package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-limiter/weir/pkg/policy"
)

func load(t *testing.T, name string) *Config {
	t.Helper()
	cfg, err := Load(files.Path("good", name))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func compare(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

// perIP is a policy with every default, for a limit per second.
func perIP(name string, limit uint64) policy.Policy {
	return policy.Policy{
		Name: name, Scope: "per_ip", Limit: limit, Window: time.Second, Burst: limit, Unit: "requests",
		Algorithm: "token_bucket", Layer: "kernel", Mode: "enforce", Consistency: "local",
		OnStoreFailure: "local", OnPressure: "pass", OnFragment: "pass", Action: "drop", IPv4Prefix: 32, IPv6Prefix: 64,
	}
}

func TestDefaults(t *testing.T) {
	want := defaults()
	want.Policies = []policy.Policy{perIP("per-client", 1000)}
	compare(t, want, load(t, "minimal.yaml"))
	compare(t, 1048576, int(want.Table.Entries))
	compare(t, "127.0.0.1:8080", want.Server.HTTP)
}

func TestEmptyValuesMeanNone(t *testing.T) {
	want := defaults()
	want.Server.HTTP = ""
	compare(t, want, load(t, "empty-lists.yaml"))
}

func TestFullFile(t *testing.T) {
	client := perIP("per-client", 1000)
	client.Burst, client.Priority, client.OnPressure = 200, 1, "drop"
	client.IPv4Prefix, client.IPv6Prefix = 24, 56
	bytes := perIP("bytes-per-client", 5_000_000)
	bytes.Unit, bytes.Mode = "bytes", "shadow"

	want := defaults()
	want.Interfaces = []Interface{{"eth0", "xdp", "auto"}, {"eth1", "xdp", "native"}}
	want.Table.Entries = 65536
	want.Server.HTTP = "127.0.0.1:9090"
	want.Policies = []policy.Policy{client, bytes}
	compare(t, want, load(t, "full.yaml"))
}

func TestPolicyThatIsOffMayUseEverything(t *testing.T) {
	got := load(t, "switched-off.yaml").Policies
	dns := perIP("dns", 100)
	dns.Window, dns.Mode = time.Minute, "off"
	dns.Match = policy.Match{
		Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.7/32"),
			netip.MustParsePrefix("2001:db8::/32")},
		Protocol:   "udp",
		Ports:      []policy.PortRange{{First: 53, Last: 53}, {First: 8000, Last: 8100}},
		Interfaces: []string{"eth0"},
	}
	compare(t, policy.Policy{
		Name: "premium-posts", Scope: "per_user", Limit: 100, Window: 30 * 24 * time.Hour, Burst: 10, Unit: "requests",
		Algorithm: "sliding_window", Priority: 0, Layer: "l7", Mode: "off", Consistency: "reconciled",
		OnStoreFailure: "share", OnPressure: "pass", OnFragment: "pass", Action: "drop", IPv4Prefix: 32, IPv6Prefix: 64,
		Replaces: []string{"dns"}, Headers: map[string]string{"X-RateLimit-Policy": "premium-posts"},
		Match: policy.Match{
			Methods: []string{"POST"}, Endpoints: []string{"/api/v2/*"}, Roles: []string{"premium"},
			Metadata: map[string]string{"tenant": "acme*"},
		},
	}, got[0])
	compare(t, dns, got[1])
}

func TestKernelFile(t *testing.T) {
	got := load(t, "kernel.yaml")
	compare(t, []Interface{{"eth0", "xdp", "native"}, {"eth0", "tc-egress", "auto"}, {"eth1", "tc-ingress", "auto"}}, got.Interfaces)
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	compare(t, prefixes("192.0.2.0/24", "2001:db8:1::/48"), got.Allow)
	compare(t, prefixes("198.51.100.0/24"), got.Deny)

	client, dns, network := perIP("per-client", 1000), perIP("dns", 100), perIP("per-network", 5000)
	client.Burst, client.NewSources = 200, &policy.NewSources{Limit: 10000, Window: time.Second}
	network.IPv4Prefix, network.IPv6Prefix = 24, 48
	dns.Priority, dns.OnFragment, dns.Replaces = 2, "drop", []string{"per-client", "per-network"}
	dns.Match = policy.Match{
		Sources:  prefixes("203.0.113.0/24", "198.51.100.7/32", "2001:db8::/32"),
		Protocol: "udp", Ports: []policy.PortRange{{First: 53, Last: 53}, {First: 8000, Last: 8100}},
		Interfaces: []string{"eth0"}, Direction: "ingress",
	}
	services, tunnels := perIP("services", 50000), perIP("tunnels", 1000)
	services.Scope, services.OnFragment, services.Priority = "per_endpoint", "drop", 1
	tunnels.Scope, tunnels.Match.Protocol = "global", "47"
	upload, trial := perIP("upload", 12_500_000), perIP("trial", 10)
	upload.Unit, upload.Action, upload.Match.Direction = "bytes", "pace", "egress"
	trial.Mode, trial.Replaces, trial.Match.Protocol = "shadow", []string{"per-client"}, "ospf"
	compare(t, []policy.Policy{client, dns, network, services, tunnels, upload, trial}, got.Policies)
}

func TestHookDirections(t *testing.T) {
	for hook, want := range map[Hook]policy.Direction{HookXDP: "ingress", HookTCIngress: "ingress", HookTCEgress: "egress"} {
		if got := hook.Direction(); got != want {
			t.Errorf("%s: got %q", hook, got)
		}
	}
}

func TestAliasesShareValues(t *testing.T) {
	got := load(t, "alias.yaml").Policies
	want := &policy.NewSources{Limit: 100, Window: time.Minute}
	compare(t, want, got[0].NewSources)
	compare(t, want, got[1].NewSources)
}

func TestWrittenZeroIsNotTheDefault(t *testing.T) {
	const head = "policies:\n  - {name: a, scope: per_api_key, limit: 1, window: 1s, mode: off"
	for line, want := range map[string]int{"}": 3, ", priority: 0}": 0, ", priority: -7}": -7} {
		cfg, err := Parse("test.yaml", []byte(head+line))
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Policies[0].Priority; got != want {
			t.Errorf("%q: priority %d, want %d", line, got, want)
		}
	}
}

func TestLoadWithoutFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "absent.yaml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

// TestSizesAreBounded feeds files that are too much of something; the message
// must say of what, and stay short itself.
func TestSizesAreBounded(t *testing.T) {
	var shared strings.Builder // one long list, used by many policies
	shared.WriteString("policies:\n")
	for i := range 300 {
		sources := "*s"
		if i == 0 {
			sources = "&s [" + strings.Repeat("192.0.2.1, ", 1000) + "]"
		}
		fmt.Fprintf(&shared, "  - {name: p%d, scope: per_ip, limit: 1, window: 1s, mode: off, match: {sources: %s}}\n", i, sources)
	}
	var prefixes strings.Builder // few enough values, but too many for the kernel
	prefixes.WriteString("allow: &p [")
	for i := range 50_001 {
		fmt.Fprintf(&prefixes, "10.%d.%d.%d, ", i>>16, i>>8&255, i&255)
	}
	prefixes.WriteString("]\ndeny: *p\n")
	for name, c := range map[string]struct{ file, want string }{
		"prefixes": {prefixes.String(), "test.yaml:2:7: deny: match.sources, allow and deny have more than 100000 entries together"},
		"policies": {"policies:" + strings.Repeat("\n- {name: a, scope: per_ip, limit: 1, window: 1s}", policy.MaxPolicies+1), "there are 10001 policies"},
		"bytes":    {"policies: []\n#" + strings.Repeat("x", MaxFileSize), "larger than 2097152 bytes"},
		"depth":    {"allow: " + strings.Repeat("[", 100_000), "max depth of 32"},
		"errors":   {"policies: [" + strings.Repeat("1, ", 5000) + "]", "4900 more errors are not shown"},
		"nodes":    {shared.String(), "more than 200000 values"},
		"key":      {strings.Repeat("k", 100_000) + ": 1\n", "unknown field"},
		"value":    {"policies: " + strings.Repeat("v", 100_000) + "\n", "want a list"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(c.file))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %.200s", err)
			}
			if len(err.Error()) > 200*(maxErrors+1) {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTableEntries(t *testing.T) {
	for n, mend := range map[uint64]string{
		1024: "", 1 << 28: "", 1025: "1024", 1535: "1024", 1536: "1024", 1537: "2048", 1<<28 - 1: "268435456",
	} {
		_, err := Parse("test.yaml", fmt.Appendf(nil, "table: {entries: %d}", n))
		if mend == "" && err != nil || mend != "" && (err == nil || !strings.HasSuffix(err.Error(), "the nearest is "+mend)) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestServerAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "127.0.0.1:8080": true, "[::1]:80": true, ":8080": true, "localhost:0": true, "weir.example.org:65535": true,
		"[fe80::1%eth0]:80": true,
		"8080":              false, "localhost": false, "::1:80": false, "127.0.0.1:-1": false, "127.0.0.1:65536": false, "127.0.0.1:http": false,
		"10.0.0.256:80": false, "a b:80": false, "a..b:80": false, "http://localhost:80": false,
	} {
		_, err := Parse("test.yaml", fmt.Appendf(nil, "server: {http: %q}", address))
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
