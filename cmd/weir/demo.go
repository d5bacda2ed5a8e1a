package main

import (
	"context"
	"errors"
	"math"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/demo"
)

// demoBefore is how long the demo shows what there is without weir.
const demoBefore = 2 * time.Second

// errNotProved goes with a summary that says what was not.
var errNotProved = errors.New("the demo did not prove what it set out to; its summary says why")

func newDemoCommand(e *env) *cobra.Command {
	o := demo.Options{Before: demoBefore}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch the kernel hold flooding hosts to their limit, in a private network",
		Long: `Build a private network of namespaces in this kernel, let four hosts send real packets through a router to a
gateway, first without weir and then with it, and show what the gateway's application received of
each: a well-behaved client, a flooder over IPv4, one over IPv6, and a flood of forged random sources.

It needs root and nothing else, touches no interface of this machine and no weir that is running, and
removes everything at its end, on Ctrl-C too. It fails if it could not prove what it set out to.`,
		Example: "  weir demo\n  weir demo --duration 1m\n  weir demo -o json | jq -r .summary",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Beside the state directory, because that is where a bpf file system is.
			o.PinDir = filepath.Dir(e.stateDir)
			if err := o.Validate(); err != nil {
				return usagef("--%w", err)
			}
			return runDemo(cmd.Context(), e, o)
		},
	}
	cmd.Flags().DurationVar(&o.Duration, "duration", 10*time.Second, "how long to send with weir attached, 3s to 5m")
	return cmd
}

func runDemo(ctx context.Context, e *env, o demo.Options) error {
	// What is pinned would outlive a closed terminal or pipe.
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	observe := func(demo.Progress) {}
	if e.output == "text" {
		observe = newDemoScreen(e).show
	}
	r, err := demo.Run(ctx, o, observe)
	if r != nil {
		err = errors.Join(err, e.show(demoJSON(r), func(p *page) { writeDemoSummary(p, r) }))
	}
	if err == nil && !r.Proved {
		err = errNotProved
	}
	return err
}

// demoView is the JSON of weir demo. Scripts read it: add fields, rename none.
type demoView struct {
	Duration  string            `json:"duration"`
	Policy    demoPolicyView    `json:"policy"`
	Clients   []demoClientView  `json:"clients"`
	Exchanges demoExchangesView `json:"exchanges"`
	Kernel    demoKernelView    `json:"kernel"`
	Before    demoBeforeView    `json:"before"` // without weir
	Proved    bool              `json:"proved"`
	Summary   string            `json:"summary"`
}

type demoPolicyView struct {
	Limit  uint64 `json:"limit"`
	Window string `json:"window"`
	Burst  uint64 `json:"burst"`
}

// demoClientView counts datagrams; passed is what the application received.
type demoClientView struct {
	Name    string    `json:"name"`
	Kind    demo.Kind `json:"kind"`
	Family  string    `json:"family"`
	Sent    uint64    `json:"sent"`
	Passed  uint64    `json:"passed"`
	Dropped uint64    `json:"dropped"`
	Rate    float64   `json:"rate"` // that passed, per second, in the last second of sending
	Verdict string    `json:"verdict,omitempty"`
}

type demoExchangesView struct {
	OK     uint64        `json:"ok"`
	Failed uint64        `json:"failed"`
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
}

type demoKernelView struct {
	Passed  uint64 `json:"passed"`
	Dropped uint64 `json:"dropped"`
}

type demoBeforeView struct {
	Clients   []demoClientView  `json:"clients"`
	Exchanges demoExchangesView `json:"exchanges"`
}

func demoJSON(r *demo.Result) demoView {
	p := demo.Policy()
	return demoView{
		Duration:  r.Duration.String(),
		Policy:    demoPolicyView{Limit: p.Limit, Window: p.Window.String(), Burst: p.Burst},
		Clients:   demoClientsJSON(r.With),
		Exchanges: demoExchangesView(r.With.Exchanges),
		Kernel:    demoKernelView{Passed: r.Kernel.Passed, Dropped: r.Kernel.Dropped},
		Before:    demoBeforeView{Clients: demoClientsJSON(r.Before), Exchanges: demoExchangesView(r.Before.Exchanges)},
		Proved:    r.Proved,
		Summary:   r.Summary,
	}
}

func demoClientsJSON(m demo.Measurement) []demoClientView {
	var all []demoClientView
	for _, c := range m.Clients {
		all = append(all, demoClientView{
			Name: c.Name, Kind: c.Kind, Family: c.Family, Sent: c.Sent, Passed: c.Passed, Dropped: c.Dropped,
			Rate: math.Round(c.Rate*10) / 10, Verdict: c.Verdict,
		})
	}
	return all
}
