package main_test

import (
	"context"
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/top"
)

// runTopAnswers: the daemon listens to the events for everybody, and names sources on its socket alone.
func runTopAnswers(t *testing.T, s *site) {
	s.write(5, "eth0")
	s.ok("attach", "eth0", "-c", s.file)
	p := s.run()
	s.waitReady(200)
	if answer := s.ask("GET", "/v1/top?n=3", ""); !strings.Contains(answer, `"busiest":[]`) {
		t.Errorf("top: %s", answer)
	}
	if status, body, err := s.get("/v1/top"); err != nil || status != 403 || !strings.Contains(body, "unix socket") {
		t.Errorf("top over TCP: %d %s %v, want 403", status, body, err)
	}
	if out := s.ok("top", "--once", "--for", "1s", "-o", "json"); !strings.Contains(out, `"attachments": 1`) {
		t.Errorf("weir top: %s", out)
	}
	if strings.Contains(p.log.String(), "weir top") {
		t.Errorf("log: %s", p.log)
	}
}

// What the two senders of topTraffic are, and how fast the flood comes.
const (
	topFlooder, topClient = "198.51.100.66", "198.51.100.7"
	topFloodRate          = 5000
	topClientRate         = 1500
	topFloodLimit         = 300 // in topFile
	topFile               = `interfaces: [{name: eth0}]
table: {entries: 1024}
server: {http: "` + runHTTP + `"}
allow: [` + topClient + `/32]
policies:
  - {name: narrow, scope: per_ip, limit: 1000000, window: 1s, match: {protocol: udp, ports: [9]}}
  - {name: per-client, scope: per_ip, limit: 300, window: 1s, burst: 30}
`
)

// topTraffic lets one source send far more than it may, and another, which is allowed anything, less, until the test ends.
func (s *site) topTraffic() {
	ctx, stop := context.WithCancel(s.t.Context())
	g, ctx := errgroup.WithContext(ctx)
	for source, rate := range map[string]float64{topFlooder: topFloodRate, topClient: topClientRate} {
		frame := s.B.Frame(netip.AddrPortFrom(s.A.IPv4, 9))
		frame.Src = netip.MustParseAddr(source)
		b, err := frame.Bytes()
		if err != nil {
			s.t.Fatal(err)
		}
		g.Go(func() error {
			return (&lab.Injector{Host: s.B, Next: lab.Cycle(b), Load: lab.Load{Rate: rate, Duration: time.Minute}, Retry: true}).Run(ctx)
		})
	}
	s.t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil {
			s.t.Error(err)
		}
	})
}

// expectTop holds that weir top finds who floods and who passes most, as near as it says and the programs count.
func (s *site) expectTop() {
	s.t.Helper()
	var r top.Report
	out := s.ok("top", "--once", "--for", "3s", "-o", "json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	if len(r.Denied) != 1 || len(r.Busiest) != 2 || r.Total.Counted == nil || r.Total.Counted.Passed == nil {
		s.t.Fatalf("want one who is denied, two who pass, and exact counts: %s", out)
	}
	worst, busiest := r.Denied[0], r.Busiest[0]
	if worst.Source.String() != topFlooder || worst.DeniedBy == nil || worst.DeniedBy.Policy != "per-client" || worst.DeniedBy.Interface != "eth0" {
		s.t.Errorf("most denied: %+v, want %s by per-client on eth0", worst, topFlooder)
	}
	if busiest.Source.String() != topClient || busiest.Denied.PerSecond != 0 || busiest.Protocol != "udp" || busiest.Port != 9 {
		s.t.Errorf("busiest: %+v, want %s", busiest, topClient)
	}
	// Twice the error that is told, or one test in twenty would fail; and the two are not of the same moments.
	counted := r.Total.Counted
	near := func(what string, got top.Rate, want float64) {
		if slack := 2*got.Error + want/10; math.Abs(got.PerSecond-want) > slack {
			s.t.Errorf("%s: %v packets/s, want %v within %v: %s", what, got.PerSecond, want, slack, out)
		}
	}
	near("denied", worst.Denied, counted.Dropped)
	near("passed", top.Rate{PerSecond: busiest.Passed.PerSecond + r.Busiest[1].Passed.PerSecond, Error: busiest.Passed.Error + r.Busiest[1].Passed.Error}, *counted.Passed)
	// The flooder passes at the ticks at which its tokens fall due, the client at all times.
	near("passed of the client", busiest.Passed, *counted.Passed-topFloodLimit)
	if r.Events.Lost != 0 || r.Events.Samples == 0 {
		s.t.Errorf("events: %+v, want some, and none lost", r.Events)
	}
}

// runTopOfTraffic: the real program on real packets, by itself and then by asking the daemon.
func runTopOfTraffic(t *testing.T, s *site) {
	s.writeText(topFile)
	s.ok("attach", "eth0", "-c", s.file)
	s.topTraffic()
	s.expectTop()
	p := s.run()
	s.waitReady(200)
	s.expectTop()
	if strings.Contains(p.log.String(), "weir top") {
		t.Errorf("log: %s", p.log)
	}
}
