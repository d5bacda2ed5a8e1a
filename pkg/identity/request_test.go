package identity

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what a resolver said to one request.
type answer struct {
	context policy.RequestContext
	err     error
}

// serve has a real server ask a resolver, by Request or, below /v1/auth, by ForwardAuth.
func serve(t *testing.T, r *Resolver, listener net.Listener) (url string, answers <-chan answer) {
	t.Helper()
	said := make(chan answer, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		resolve := r.Request
		if req.URL.Path == "/v1/auth" {
			resolve = r.ForwardAuth
		}
		c, err := resolve(req)
		said <- answer{c, err}
	}))
	if listener != nil {
		server.Listener.Close()
		server.Listener = listener
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL, said
}

// send writes a request as it is: net/http's client would tidy it up.
func send(t *testing.T, conn net.Conn, requestLine string, headers ...string) {
	t.Helper()
	defer conn.Close()
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n%s\r\n", requestLine, strings.Join(append(headers, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("net/http answered %s itself", resp.Status)
	}
}

func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

var (
	loopback  = netip.MustParseAddr("127.0.0.1")
	elsewhere = netip.MustParseAddr("203.0.113.66")
	proxies   = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
)

func usual(trusted ...netip.Prefix) Options {
	o := DefaultOptions()
	o.TrustedProxies = trusted
	o.MetadataHeaders = map[string]string{"tenant": "X-Tenant", "host": "Host"}
	return o
}

// What the next proxy says in most of the cases.
var said = []string{"X-Forwarded-For: 203.0.113.66", "X-User: ann", "X-Role: premium", "X-Tenant: acme", "X-API-Key: k3y", "X-Request-Id: r-1"}

func TestRequest(t *testing.T) {
	for _, test := range []struct {
		name    string
		options Options
		line    string
		headers []string
		want    policy.RequestContext
		field   string // of the error
	}{
		{"trusted peer", usual(proxies...), "POST /a/b%2fc?q=1", said, policy.RequestContext{
			ClientIP: elsewhere, Method: "POST", Endpoint: "/a/b%2fc", UserID: "ann", UserRole: "premium", APIKey: HashAPIKey("k3y"), RequestID: "r-1",
			Metadata: map[string]string{"tenant": "acme", "host": "app.example"},
		}, ""},
		{"untrusted peer", usual(), "POST /a/b?q=1", said, policy.RequestContext{
			ClientIP: loopback, Method: "POST", Endpoint: "/a/b", APIKey: HashAPIKey("k3y"), RequestID: "r-1",
		}, ""},
		{"nothing configured", Options{}, "GET /", said, policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/"}, ""},
		{"headers of forward-auth do not count", usual(proxies...), "GET /a", []string{"X-Forwarded-Uri: /b", "X-Forwarded-Method: PUT", "X-Original-URI: /c"},
			policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/a", Metadata: map[string]string{"host": "app.example"}}, ""},
		{"method in small letters", Options{}, "get /", nil, policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/"}, ""},
		{"host of another", usual(proxies...), "GET /a", []string{"X-Forwarded-Host: shop.example"},
			policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/a", Metadata: map[string]string{"host": "shop.example"}}, ""},

		{"an untrusted peer's bad headers are nobody's concern", usual(), "GET /a", []string{"X-User: a", "X-User: b", "X-Role: a\tb", "X-Tenant: " + strings.Repeat("x", 2000), "X-Forwarded-For: \""},
			policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/a"}, ""},
		{"a request ID that is too long is left out", usual(), "GET /a", []string{"X-Request-Id: " + strings.Repeat("x", 1025)},
			policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/a"}, ""},

		{"user twice", usual(proxies...), "GET /", []string{"X-User: ann", "X-User: bob"}, policy.RequestContext{}, "X-User"},
		{"user too long", usual(proxies...), "GET /", []string{"X-User: " + strings.Repeat("x", 1025)}, policy.RequestContext{}, "X-User"},
		{"longest user", usual(proxies...), "GET /", []string{"X-User: " + strings.Repeat("x", 1024)},
			policy.RequestContext{ClientIP: loopback, Method: "GET", Endpoint: "/", UserID: strings.Repeat("x", 1024), Metadata: map[string]string{"host": "app.example"}}, ""},
		{"control character", usual(proxies...), "GET /", []string{"X-Role: a\tb"}, policy.RequestContext{}, "X-Role"},
		{"control character beyond ASCII", usual(proxies...), "GET /", []string{"X-User: a\u0085b"}, policy.RequestContext{}, "X-User"},
		{"not UTF-8", usual(proxies...), "GET /", []string{"X-User: a\xffb"}, policy.RequestContext{}, "X-User"},
		{"metadata too long", usual(proxies...), "GET /", []string{"X-Tenant: " + strings.Repeat("x", 1025)}, policy.RequestContext{}, "X-Tenant"},
		{"API key twice", usual(), "GET /", []string{"X-API-Key: a", "X-API-Key: b"}, policy.RequestContext{}, "X-Api-Key"},
		{"API key too long", usual(), "GET /", []string{"X-API-Key: " + strings.Repeat("x", 1025)}, policy.RequestContext{}, "X-Api-Key"},
		{"path too long", usual(), "GET /" + strings.Repeat("x", 1024), nil, policy.RequestContext{}, "path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, answers := serve(t, resolver(t, test.options), nil)
			send(t, dial(t, url), test.line, test.headers...)
			check(t, <-answers, test.want, test.field)
		})
	}
}

func TestForwardAuth(t *testing.T) {
	at := func(method, path string) policy.RequestContext {
		return policy.RequestContext{ClientIP: loopback, Method: method, Endpoint: path}
	}
	trusted := Options{TrustedProxies: proxies}
	for _, test := range []struct {
		name    string
		options Options
		headers []string
		want    policy.RequestContext
		field   string
	}{
		{"Traefik and Caddy", trusted, []string{"X-Forwarded-Method: DELETE", "X-Forwarded-Uri: /a/b?c=d"}, at("DELETE", "/a/b"), ""},
		{"nginx", trusted, []string{"X-Original-Method: put", "X-Original-URI: /a%20b?c"}, at("PUT", "/a%20b"), ""},
		{"nginx by URL", trusted, []string{"X-Original-URL: https://app.example/a/b?c=http://x/y"}, at("GET", "/a/b"), ""},
		{"URL without a path", trusted, []string{"X-Original-URL: http://app.example?x=/y"}, at("GET", "/"), ""},
		{"both of nginx", trusted, []string{"X-Original-URL: https://app.example/a", "X-Original-URI: /a?b"}, at("GET", "/a"), ""},
		{"path that looks like a URL", trusted, []string{"X-Original-URI: //a/b"}, at("GET", "//a/b"), ""},
		{"all of the server", trusted, []string{"X-Forwarded-Method: OPTIONS", "X-Forwarded-Uri: *"}, at("OPTIONS", "*"), ""},
		{"a query longer than a context may be", trusted, []string{"X-Forwarded-Uri: /a?" + strings.Repeat("x", 4000)}, at("GET", "/a"), ""},
		{"not told", trusted, nil, at("GET", "/v1/auth"), ""},
		{"untrusted peer", Options{}, []string{"X-Forwarded-Method: DELETE", "X-Forwarded-Uri: /a", "X-Original-URI: /b"}, at("GET", "/v1/auth"), ""},

		{"a path that the client adds", trusted, []string{"X-Original-URI: /expensive", "X-Forwarded-Uri: /cheap"}, policy.RequestContext{}, "X-Original-Uri"},
		{"a URL that the client adds", trusted, []string{"X-Original-URI: /expensive", "X-Original-URL: http://a/cheap"}, policy.RequestContext{}, "X-Original-Url"},
		{"a method that the client adds", trusted, []string{"X-Original-Method: POST", "X-Forwarded-Method: GET"}, policy.RequestContext{}, "X-Original-Method"},
		{"a second line that the client adds", trusted, []string{"X-Original-URI: /cheap", "X-Original-URI: /expensive"}, policy.RequestContext{}, "X-Original-Uri"},
		{"no path", trusted, []string{"X-Original-URI: cheap"}, policy.RequestContext{}, "X-Original-Uri"},
		{"no URL of HTTP", trusted, []string{"X-Original-URL: file:///etc/passwd"}, policy.RequestContext{}, "X-Original-Url"},
		{"only a query", trusted, []string{"X-Original-URI: ?a"}, policy.RequestContext{}, "X-Original-Uri"},
		{"path too long", trusted, []string{"X-Original-URI: /" + strings.Repeat("x", 1024)}, policy.RequestContext{}, "path"},
		{"method too long", trusted, []string{"X-Original-Method: " + strings.Repeat("X", 1025)}, policy.RequestContext{}, "method"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, answers := serve(t, resolver(t, test.options), nil)
			send(t, dial(t, url), "GET /v1/auth?deny=403", test.headers...)
			check(t, <-answers, test.want, test.field)
		})
	}
}

func check(t *testing.T, got answer, want policy.RequestContext, field string) {
	t.Helper()
	if field != "" {
		var wrong *FieldError
		if !errors.As(got.err, &wrong) || wrong.Field != field || wrong.Problem == "" || wrong.Mend == "" {
			t.Errorf("error %v, want a whole one of field %s", got.err, field)
		}
	} else if got.err != nil {
		t.Errorf("unexpected error %v", got.err)
	}
	if diff := cmp.Diff(want, got.context, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("context (-want +got):\n%s", diff)
	}
}

// A peer on a unix socket is trusted, and has no address, whatever its end of the socket is called.
func TestUnixSocketPeer(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, local := range map[string]*net.UnixAddr{
		"unnamed": nil, "named like an address": {Name: "9.9.9.9:80", Net: "unix"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			_, answers := serve(t, resolver(t, usual()), listener)
			for _, test := range []struct {
				headers []string
				want    policy.RequestContext
			}{
				{nil, policy.RequestContext{Method: "GET", Endpoint: "/v1/auth", Metadata: map[string]string{"host": "app.example"}}},
				{[]string{"X-Forwarded-For: 9.9.9.9, 203.0.113.66", "X-User: ann", "X-Original-URI: /a"},
					policy.RequestContext{ClientIP: elsewhere, UserID: "ann", Method: "GET", Endpoint: "/a", Metadata: map[string]string{"host": "app.example"}}},
			} {
				var from net.Addr
				if local != nil {
					from = &net.UnixAddr{Name: fmt.Sprintf("%s%d", local.Name, len(test.headers)), Net: "unix"}
				}
				conn, err := (&net.Dialer{LocalAddr: from}).DialContext(t.Context(), "unix", path)
				if err != nil {
					t.Fatal(err)
				}
				send(t, conn, "GET /v1/auth", test.headers...)
				check(t, <-answers, test.want, "")
			}
		})
	}
}

func TestGRPC(t *testing.T) {
	tcp := func(t *testing.T) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	unix := func(t *testing.T) net.Listener {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	const method = "/grpc.health.v1.Health/Check"
	headers := []string{"x-forwarded-for", "9.9.9.9", "x-forwarded-for", "203.0.113.66", "x-user", "ann", "x-tenant", "acme", "x-api-key", "k3y"}
	whole := policy.RequestContext{
		ClientIP: elsewhere, Method: "POST", Endpoint: method, UserID: "ann", APIKey: HashAPIKey("k3y"),
		Metadata: map[string]string{"tenant": "acme", "host": "app.example"},
	}
	for _, test := range []struct {
		name    string
		listen  func(*testing.T) net.Listener
		options Options
		headers []string
		want    policy.RequestContext
		field   string
	}{
		{"trusted peer", tcp, usual(proxies...), headers, whole, ""},
		{"unix socket", unix, usual(), headers, whole, ""},
		{"untrusted peer", tcp, usual(), headers, policy.RequestContext{ClientIP: loopback, Method: "POST", Endpoint: method, APIKey: HashAPIKey("k3y")}, ""},
		{"user twice", tcp, usual(proxies...), []string{"x-user", "ann", "x-user", "bob"}, policy.RequestContext{}, "X-User"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := resolver(t, test.options)
			listener, said := test.listen(t), make(chan answer, 1)
			server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				c, err := r.GRPC(ctx, info.FullMethod)
				said <- answer{c, err}
				return next(ctx, req)
			}))
			grpc_health_v1.RegisterHealthServer(server, health.NewServer())
			go server.Serve(listener)
			defer server.Stop()

			addr := listener.Addr()
			conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("app.example"),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, addr.Network(), addr.String())
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx := metadata.AppendToOutgoingContext(t.Context(), test.headers...)
			if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
			check(t, <-said, test.want, test.field)
		})
	}
	if c, err := resolver(t, usual()).GRPC(t.Context(), method); err != nil || c.ClientIP.IsValid() {
		t.Errorf("a context of no server: %v, %v", c, err)
	}
}

// An error shows nothing of what was sent: it goes into answers and logs.
func TestFieldErrorsAreDiscreet(t *testing.T) {
	r := resolver(t, usual(proxies...))
	for _, header := range []string{"X-Api-Key", "X-User", "X-Tenant"} {
		req := httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr = "127.0.0.1:1"
		req.Header.Set(header, strings.Repeat("s3cret", 400))
		if _, err := r.Request(req); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error %v", header, err)
		}
	}
}

func TestHashAPIKey(t *testing.T) {
	// printf 'weir api key\0k3y' | sha256sum | cut -c-32
	if got, want := HashAPIKey("k3y"), "ecc596ca56469be53bc9d003f855b843"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	if long := strings.Repeat("x", 5000); HashAPIKey(long) == HashAPIKey(long[1:]) || len(HashAPIKey(long)) != 32 {
		t.Error("a long key's digest is not its own")
	}
}

func TestNewRefuses(t *testing.T) {
	many := make(map[string]string)
	for i := range maxMetadata + 1 {
		many[fmt.Sprint(i)] = "X-A"
	}
	for want, o := range map[string]Options{
		"trusted proxy 0":   {TrustedProxies: []netip.Prefix{{}}},
		"trusted proxy 1":   {TrustedProxies: []netip.Prefix{proxies[0], netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		"user header":       {UserHeader: "X User"},
		"role header":       {RoleHeader: "X-Rôle"},
		"client header":     {ClientHeader: "X:"},
		"API key header":    {APIKeyHeader: strings.Repeat("x", 257)},
		"request ID header": {RequestIDHeader: "\n"},
		`metadata "a"`:      {MetadataHeaders: map[string]string{"a": ""}},
		`metadata ""`:       {MetadataHeaders: map[string]string{"": "X-A"}},
		"metadata of 65":    {MetadataHeaders: many},
	} {
		if r, err := New(o); err == nil || r != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want an error of %s", r, err, want)
		}
	}
}
