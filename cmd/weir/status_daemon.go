package main

import (
	"context"
	"net/http"
	"strings"

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
	daemonState
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
		if err := c.ask(ctx, http.MethodGet, "/readyz", nil, &v.daemonState); err != nil {
			v.Error = err.Error()
		}
	}
	return v
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
	p.printf("answers on %s\n", v.Socket)
	g := fields("  ")
	for _, m := range v.Missing {
		g.add(cell{"not enforced", faint}, cell{m.Interface + " (" + m.Hook + "): " + m.Reason, red})
	}
	if v.Applied != nil {
		g.field("policies", "changed by the admin API at %s, %s", localTime(*v.Applied), lastsUntilReload)
	}
	if v.Failed != nil {
		for _, fault := range v.Failed.Errors {
			g.add(cell{"file not loaded", faint}, cell{localTime(v.Failed.At) + ": " + fault, red})
		}
	}
	g.write(p)
}
