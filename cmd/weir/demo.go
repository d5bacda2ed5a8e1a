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
		Long: `Build a private network of namespaces in this kernel, let six hosts send real packets through a router to a
gateway, first without weir and then with it, and show what the gateway's application received of
each: a well-behaved client, a flooder over IPv4, one over IPv6, a botnet each of whose hosts keeps to its
limit, a flood of forged random sources, and a host that is banned.

It needs root and nothing else, touches no interface of this machine and no weir that is running, and
removes everything at its end, on Ctrl-C too. Where the machine is too busy to show anything,
it plays the part with weir again, three times at most. It fails if it could not prove what it set out to.`,
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
	Before    demoBeforeView    `json:"before"`   // without weir
	Attempts  int               `json:"attempts"` // that the part with weir took
	Proved    bool              `json:"proved"`
	Summary   string            `json:"summary"`
}

type demoPolicyView struct {
	Limit  uint64 `json:"limit"`
	Window string `json:"window"`
	Burst  uint64 `json:"burst"`
	// NewSources and Network are the cap on first-seen sources and the limit of a /24, in the same window.
	NewSources uint64 `json:"new_sources"`
	Network    uint64 `json:"network"`
}

// demoClientView counts datagrams; passed is what the application received.
type demoClientView struct {
	Name    string    `json:"name"`
	Kind    demo.Kind `json:"kind"`
	Family  string    `json:"family"`
	Sent    uint64    `json:"sent"`
	Passed  uint64    `json:"passed"`
	Dropped uint64    `json:"dropped"`
	Limit   string    `json:"limit"` // that it meets with weir, in words
	Rate    float64   `json:"rate"`  // that passed, per second, in the last second of sending
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
	// Strangers and Banned are parts of Dropped.
	Strangers uint64 `json:"strangers"`
	Banned    uint64 `json:"banned"`
}

type demoBeforeView struct {
	Clients   []demoClientView  `json:"clients"`
	Exchanges demoExchangesView `json:"exchanges"`
}

func demoJSON(r *demo.Result) demoView {
	p, network := demo.PerClient(), demo.PerNetwork()
	return demoView{
		Duration: r.Duration.String(),
		Policy: demoPolicyView{
			Limit: p.Limit, Window: p.Window.String(), Burst: p.Burst, NewSources: p.NewSources.Limit, Network: network.Limit,
		},
		Clients:   demoClientsJSON(r.With),
		Exchanges: demoExchangesView(r.With.Exchanges),
		Kernel:    demoKernelView{r.Kernel.Passed, r.Kernel.Dropped, r.Kernel.Strangers, r.Kernel.Banned},
		Before:    demoBeforeView{Clients: demoClientsJSON(r.Before), Exchanges: demoExchangesView(r.Before.Exchanges)},
		Attempts:  r.Attempts,
		Proved:    r.Proved,
		Summary:   r.Summary,
	}
}

func demoClientsJSON(m demo.Measurement) []demoClientView {
	var all []demoClientView
	for _, c := range m.Clients {
		all = append(all, demoClientView{
			Name: c.Name, Kind: c.Kind, Family: c.Family, Sent: c.Sent, Passed: c.Passed, Dropped: c.Dropped, Limit: c.Limit(),
			Rate: math.Round(c.Rate*10) / 10, Verdict: c.Verdict,
		})
	}
	return all
}
