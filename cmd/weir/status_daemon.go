package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

// daemonState is the answer of /readyz.
type daemonState struct {
	Ready   bool             `json:"ready"`
	Missing []server.Missing `json:"missing"`
	server.Config
}

// state asks the daemon how it is.
func (c *client) state(ctx context.Context) (s daemonState, err error) {
	return s, c.ask(ctx, http.MethodGet, "/readyz", nil, &s)
}

func (s *daemonState) missingText() string {
	var all []string
	for _, m := range s.Missing {
		all = append(all, m.Interface+" ("+m.Hook+"): "+m.Reason)
	}
	return strings.Join(all, "; ")
}

// daemonView is what weir status tells of weir run.
type daemonView struct {
	Socket string `json:"socket"`
	Error  string `json:"error,omitempty"` // why it can't be asked
	// KernelError is why only the daemon could be asked.
	KernelError string `json:"kernel_error,omitempty"`
	daemonState
	// Requests are the figures of layer 7; null if it is not known.
	Requests *limiter.Stats `json:"requests"`
	// Cluster is how this node stands with the others; null: it shares nothing.
	Cluster *server.ClusterStatus `json:"cluster"`
}

// askDaemon asks the daemon how it is; nil if none answers. What can't be asked is shown, and no failure.
func askDaemon(ctx context.Context, e *env) *daemonView {
	v := &daemonView{Socket: socketPath(e.runDir), daemonState: daemonState{Missing: []server.Missing{}}}
	c, err := e.daemon(ctx)
	switch {
	case err != nil:
		v.Error = err.Error()
	case c == nil:
		return nil
	default:
		v.ask(ctx, c)
	}
	return v
}

func (v *daemonView) ask(ctx context.Context, c *client) {
	var s limiter.Stats
	err := c.ask(ctx, http.MethodGet, "/readyz", nil, &v.daemonState)
	if err == nil {
		err = c.ask(ctx, http.MethodGet, "/v1/stats", nil, &s)
	}
	if err == nil {
		v.Cluster, err = c.cluster(ctx)
	}
	if err != nil {
		v.Error = err.Error()
		return
	}
	v.Requests = &s
}

// cluster asks the daemon how it stands with other nodes; nil if it shares nothing, or is of a version that told nothing.
func (c *client) cluster(ctx context.Context) (*server.ClusterStatus, error) {
	const path = "/v1/cluster"
	a, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil || a.status == http.StatusNotFound {
		return nil, err
	}
	if err := a.problem(c, http.MethodGet, path); err != nil {
		return nil, err
	}
	s := &server.ClusterStatus{}
	return s, a.read(s)
}

func writeDaemon(p *page, v *daemonView) {
	if v == nil {
		return
	}
	p.printf("\n%s  ", p.paint(bold, "daemon"))
	if v.Error != "" {
		p.printf("%s\n", p.paint(yellow, v.Error))
		return
	}
	note := ""
	if v.RequestsOnly {
		note = ", and limits requests alone"
	}
	p.printf("answers on %s%s\n", v.Socket, note)
	g := fields("  ")
	for _, m := range v.Missing {
		g.add(cell{"not enforced", faint}, cell{m.Interface + " (" + m.Hook + "): " + m.Reason, red})
	}
	for _, w := range v.Warnings {
		g.add(cell{"warning", faint}, cell{w, yellow})
	}
	lasts := lastsUntilReload
	if v.ClusterVersion > 0 {
		lasts = lastsBesides
		g.field("policies", "version %d of the cluster's, instead of the file's", v.ClusterVersion)
	}
	if v.Applied != nil {
		g.field("policies", "changed by the admin API at %s, %s", localTime(*v.Applied), lasts)
	}
	if v.Failed != nil {
		for _, fault := range v.Failed.Errors {
			g.add(cell{"file not loaded", faint}, cell{localTime(v.Failed.At) + ": " + fault, red})
		}
	}
	g.write(p)
	if v.Cluster != nil {
		writeCluster(p, v.Cluster, time.Now())
	}
	if s := v.Requests; s != nil && (s.ActivePolicies > 0 || s.TotalRequests > 0) {
		writeRequests(p, s)
	}
}

// writeRequests shows what layer 7 did.
func writeRequests(p *page, s *limiter.Stats) {
	each := ""
	if s.TotalRequests > 0 {
		each = fmt.Sprintf(", %.1f µs each", 1000*s.AverageLatencyMS)
	}
	p.printf("\n%s  %s, %s allowed, %s exceeded%s\n", p.paint(bold, "requests"), thousands(s.TotalRequests),
		thousands(s.AllowedRequests), thousands(s.ExceededRequests), each)
	g := grid{indent: "  ", columns: columns("POLICY", "MODE", ">PASS", ">DROP", ">SHADOW-DROP")}
	for _, one := range s.Policies {
		if one.Policy == limiter.OwnPolicy && one.Hits == 0 {
			continue
		}
		g.add(cell{one.Policy, bold}, modeCell(policy.Mode(one.Mode)), number(one.Allowed+one.Refunded), alarm(one.Exceeded, red), alarm(one.ShadowExceeded, yellow))
	}
	g.write(p)
	t := s.Table
	p.printf("\n%s  %s entries, %s, of layer 7\n", p.paint(bold, "table"), thousands(uint64(t.Capacity)), memorySize(uint64(t.Bytes)))
	writeOccupancy(p, t.Claimed, t.Owing, t.Capacity, t.Pressure, "requests", "table.l7_entries")
}
