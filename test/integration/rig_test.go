package integration

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
)

// The addresses that every file of docs/integrations has in it.
const (
	weirHTTP    = "127.0.0.1:8080"
	weirGRPC    = "127.0.0.1:8081"
	application = "127.0.0.1:9000"
	front       = "127.0.0.1:80"
)

// policies of the tests. No bucket gets a token back while they run, and no two tests share one.
const policies = `
policies:
  - {name: per-address, scope: per_ip, layer: l7, limit: 3, window: 24h, match: {endpoints: ["/address/*"]}}
  - {name: per-key, scope: per_api_key, limit: 2, window: 24h, match: {endpoints: ["/key/*"]}}
  - {name: per-user, scope: per_user, limit: 2, window: 24h, match: {endpoints: ["/account/*", "/open/*"]}}
  - {name: orders, scope: per_ip, layer: l7, limit: 1, window: 24h, match: {methods: [POST], endpoints: ["/orders/{id}/items"]}}
  - {name: storm, scope: global, limit: 200, window: 24h, match: {endpoints: [/storm]}}
  - {name: watched, scope: per_ip, layer: l7, mode: shadow, limit: 1, window: 24h, match: {endpoints: [/watched]}}
deny: [127.0.0.66]
`

// rig is an application, and weir, for a proxy to stand between.
type rig struct {
	*testing.T
	dir  string // of the proxy's files
	app  *app
	weir *process
}

func newRig(t *testing.T) *rig {
	t.Helper()
	testutil.NoLeaks(t)
	r := &rig{T: t, dir: t.TempDir(), app: startApp(t)}
	for _, dir := range []string{filepath.Dir(r.dir), r.dir} {
		if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are not root
			t.Fatal(err)
		}
	}
	r.startWeir()
	return r
}

// startWeir starts a weir whose buckets are full: docs/integrations/weir.yaml with other policies.
func (r *rig) startWeir() {
	r.Helper()
	server, _, ok := strings.Cut(document(r.T, "weir.yaml"), "\npolicies:")
	if !ok {
		r.Fatal("docs/integrations/weir.yaml has no policies")
	}
	dir := r.TempDir()
	write(r.T, dir, "weir.yaml", server+policies)
	r.weir = start(r.T, dir, os.Getenv(weirVariable), "run", "-c", "weir.yaml", "--run-dir", dir)
	eventually(r.T, "weir is ready", func() bool {
		if r.weir.ended() {
			r.Fatalf("weir ended")
		}
		c := newClient("127.0.0.1")
		defer c.CloseIdleConnections()
		answer, err := c.Get("http://" + weirHTTP + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// TestWeirFile has weir read the file of docs/integrations with the policies that it has itself.
func TestWeirFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "weir.yaml", document(t, "weir.yaml"))
	if out, err := exec.Command(os.Getenv(weirVariable), "policy", "validate", filepath.Join(dir, "weir.yaml")).CombinedOutput(); err != nil {
		t.Errorf("weir policy validate: %v\n%s", err, out)
	}
}

// app is what is to be protected. It remembers who came.
type app struct {
	mu   sync.Mutex
	came []visit
}

// visit is a request that reached the application.
type visit struct {
	method, target, body string
	header               http.Header
}

func startApp(t *testing.T) *app {
	t.Helper()
	a := new(app)
	listener, err := net.Listen("tcp", application)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return a
}

// ServeHTTP implements [http.Handler].
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.came = append(a.came, visit{r.Method, r.RequestURI, string(body), r.Header})
	a.mu.Unlock()
	w.Header().Set("X-Application", "yes")
	io.WriteString(w, "the application")
}

// visits are those whose target starts so.
func (a *app) visits(prefix string) []visit {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []visit
	for _, v := range a.came {
		if strings.HasPrefix(v.target, prefix) {
			found = append(found, v)
		}
	}
	return found
}

// newClient is a client at an address of the loopback network, with a connection for each request. What weir and
// the proxies see of it is that address.
func newClient(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
		Timeout:   4 * patience / 3,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// question is a request of a client.
type question struct {
	from   string // address of the client
	method string // GET if empty
	path   string // as it is sent, with its query
	user   string // with password "wonderland"
	header http.Header
	body   string
}

// ask sends a request to the proxy.
func (r *rig) ask(q question) answer {
	r.Helper()
	client := newClient(q.from)
	defer client.CloseIdleConnections()
	request, err := http.NewRequest(q.method, "http://"+front, strings.NewReader(q.body))
	if err != nil {
		r.Fatal(err)
	}
	request.URL.Opaque = "//" + front + q.path // or net/url would tidy it
	if strings.HasPrefix(q.path, "/") && !strings.HasPrefix(q.path, "//") {
		request.URL.Opaque = q.path
	}
	if q.header != nil {
		request.Header = q.header.Clone()
	}
	if q.user != "" {
		request.SetBasicAuth(q.user, "wonderland")
	}
	begin := time.Now()
	got, err := client.Do(request)
	if err != nil {
		r.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		r.Fatal(err)
	}
	return answer{got.StatusCode, got.Header, string(body), time.Since(begin)}
}

// want asks, and holds the answer to a status.
func (r *rig) want(status int, q question) answer {
	r.Helper()
	a := r.ask(q)
	if a.status != status {
		r.Errorf("%s %s from %s (user %q, %v): status %d, want %d\n%v\n%.300s",
			q.method, q.path, q.from, q.user, q.header, a.status, status, a.header, a.body)
	}
	return a
}
