package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// nginxMain is the nginx.conf around docs/integrations/nginx/weir.conf: what a distribution's has in it, within one
// directory.
const nginxMain = `
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 2;
events { worker_connections 4096; }
http {
	log_format line '$status $request_uri';
	access_log access.log line;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	include weir.conf;
}
`

// passwords are those of alice and bob, as openssl passwd -apr1 makes them: both wonderland.
const passwords = "alice:$apr1$weirweir$6BIp/B.SCxq8b.ZEUU2lN0\nbob:$apr1$weirweir$6BIp/B.SCxq8b.ZEUU2lN0\n"

var nginx = proxy{
	start: func(r *rig, edit func(string) string) *process {
		write(r.T, r.dir, "nginx.conf", nginxMain)
		write(r.T, r.dir, "weir.conf", edit(document(r.T, "nginx", "weir.conf")))
		write(r.T, r.dir, "htpasswd", passwords)
		return start(r.T, r.dir, "nginx", "-p", r.dir, "-c", "nginx.conf", "-e", "stderr")
	},
	closed: func(conf string) string {
		return without(conf, "error_page 500 502 503 504 = @weir_away;")
	},
	refused: 500,
}

// without is a text without the line that has this in it: what the pages say to take out.
func without(text, line string) string {
	var kept []string
	found := 0
	for l := range strings.Lines(text) {
		if strings.Contains(l, line) {
			found++
			continue
		}
		kept = append(kept, l)
	}
	if found != 1 {
		panic(fmt.Sprintf("%d lines have %q in them, want one", found, line))
	}
	return strings.Join(kept, "")
}

func TestNginx(t *testing.T) { nginx.run(t) }

// TestStormThroughNginx has hundreds of clients ask at once, for what 200 of the requests may have.
func TestStormThroughNginx(t *testing.T) {
	const clients, each, limit = 300, 10, 200
	r := newRig(t)
	nginx.ready(r, unchanged)
	var mu sync.Mutex
	got := make(map[int]int)
	begin := make(chan struct{})
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			<-begin
			for range each {
				a := r.ask(question{from: fmt.Sprintf("127.0.2.%d", i%250+1), path: "/storm"})
				mu.Lock()
				got[a.status]++
				mu.Unlock()
			}
		})
	}
	close(begin)
	wait.Wait()
	if got[200] != limit || got[429] != clients*each-limit || len(got) != 2 {
		t.Errorf("clients got %v, want %d admitted and the other %d denied", got, limit, clients*each-limit)
	}
	if n := len(r.app.visits("/storm")); n != limit {
		t.Errorf("the application saw %d requests, want %d", n, limit)
	}
	count := func(line string) int {
		log, err := os.ReadFile(filepath.Join(r.dir, "access.log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), line+"\n")
	}
	eventually(t, "nginx has logged all requests", func() bool { return count("200 /storm")+count("429 /storm") == clients*each })
	if n := count("200 /storm"); n != limit {
		t.Errorf("nginx logged %d requests as admitted, want %d", n, limit)
	}
}
