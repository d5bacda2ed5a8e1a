package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

func TestServerDefaults(t *testing.T) {
	got := load(t, "minimal.yaml")
	compare(t, Server{
		HTTP: "127.0.0.1:8080", Headers: "x-ratelimit",
		Identity: Identity{UserHeader: "X-User", RoleHeader: "X-Role", APIKeyHeader: "X-API-Key", RequestIDHeader: "X-Request-ID"},
	}, got.Server)
	compare(t, Table{Entries: 1 << 20, L7Entries: 1 << 20}, got.Table)
}

func TestServerFile(t *testing.T) {
	got := load(t, "server.yaml")
	compare(t, Server{
		HTTP: ":8080", GRPC: "[::1]:0", Proxy: Proxy{"[::1]:0", "https://app.example.org:8443/base"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::/8")},
		RLSConfig:      []string{"/etc/weir/rls", "/etc/weir/more.yaml"}, Headers: "off",
		Identity: Identity{
			ClientHeader: "CF-Connecting-IP", RoleHeader: "x_role", APIKeyHeader: "X-User",
			MetadataHeaders: map[string]string{"tenant": "X-Tenant", "plan": "X-Tenant"},
		},
		JWT: &JWT{SecretFile: "/etc/weir/secret", Algorithms: []string{"HS256", "HS512"}, UserClaim: "email", Header: "X-Token"},
	}, got.Server)
	compare(t, Table{Entries: 1 << 20, L7Entries: 1024}, got.Table)
}

func TestL7File(t *testing.T) {
	got := load(t, "every-field-l7.yaml")
	compare(t, &JWT{
		JWKSURL: "https://login.example.org/.well-known/jwks.json", Algorithms: []string{"RS256", "ES256"}, Issuer: "https://login.example.org",
		Audience: "api", UserClaim: "sub", RoleClaim: "role", Header: "Authorization", Leeway: 30 * time.Second,
	}, got.Server.JWT)
	compare(t, 7, len(policy.L7Policies(got.Policies)))
	var algorithms []policy.Algorithm
	for _, p := range got.Policies {
		if !slices.Contains(algorithms, p.Algorithm) {
			algorithms = append(algorithms, p.Algorithm)
		}
	}
	compare(t, policy.Algorithms(), algorithms)
	custom := got.Policies[4]
	compare(t, policy.Policy{
		Name: "tenant-writes", Scope: "custom", Key: "{metadata.tenant}:{endpoint}", Limit: 50, Window: time.Second, Burst: 200, Unit: "requests",
		Algorithm: "leaky_bucket", Layer: "l7", Mode: "enforce", Consistency: "local", OnStoreFailure: "local", OnPressure: "pass", OnFragment: "pass",
		Action: "drop", IPv4Prefix: 32, IPv6Prefix: 64,
	}, custom)
	compare(t, []string{"/login", "/api/v2/*", "/users/{id}/posts", "/files/{owner}/*"}, got.Policies[3].Match.Endpoints)
}

func TestURLs(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://127.0.0.1:9000": true, "https://app.example.org": true, "http://[::1]:80/base/": true, "http://app": true, "": true, "HTTP://app:80": true,
		"http://": false, "http://app:": false, "http://:80": false, "http://app:0": false, "http://app:65536": false, "http://app:http": false,
		"ftp://app": false, "http:app": false, "/base": false, "http://a b": false, "http://127.0.0.256": false, "http://[::1": false, "http://[::zz]": false,
		"http://app/?": false, "http://app/#a": false, "http://ann@app": false, "http://a/" + strings.Repeat("a", 1024): false, "http://a\x00b": false,
	} {
		_, err := Parse("test.yaml", fmt.Appendf(nil, "server: {proxy: {listen: %q, upstream: %q}}", strings.Repeat(":8000", min(1, len(address))), address))
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
	for address, ok := range map[string]bool{
		"https://login.example.org/jwks?a=b": true, "http://localhost:8080/": true, "http://127.9.9.9/": true, "http://[::1]/": true,
		"http://10.0.0.1/": false, "http://localhost.example.org/": false, "https://login/#a": false, "": false, "https://ann:secret@login/": false,
	} {
		_, err := Parse("test.yaml", fmt.Appendf(nil, "server: {jwt: {jwks_url: %q}}", address))
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") && strings.Contains(address, "secret") {
			t.Errorf("the message has the password: %v", err)
		}
	}
}

// TestServerListsAreBounded feeds lists that are one too long.
func TestServerListsAreBounded(t *testing.T) {
	var headers strings.Builder
	for i := range MaxMetadataHeaders + 1 {
		fmt.Fprintf(&headers, "m%d: X-%d, ", i, i)
	}
	for field, value := range map[string]string{
		"trusted_proxies":           "[" + strings.Repeat("192.0.2.1, ", MaxTrustedProxies+1) + "]",
		"rls_config":                "[" + strings.Repeat("/a, ", MaxRLSConfig+1) + "]",
		"identity.metadata_headers": "{" + headers.String() + "}",
	} {
		parts := strings.Split(field, ".")
		text := parts[len(parts)-1] + ": " + value
		if len(parts) > 1 {
			text = parts[0] + ": {" + text + "}"
		}
		_, err := Parse("test.yaml", []byte("server: {grpc: ':1', "+text+"}"))
		if err == nil || !strings.Contains(err.Error(), "server."+field+": has ") || !strings.Contains(err.Error(), "write at most") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
