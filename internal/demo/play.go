package demo

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/lab"
)

const (
	sampleEvery = 250 * time.Millisecond
	// rateSamples is over how many samples a rate is taken: a second.
	rateSamples = 4
	// underWay is how long after what was sent a sample reads what has passed, so that what is under way is not shown as lost.
	underWay = 20 * time.Millisecond

	// introduceWithin is far more than everybody's first packet takes.
	introduceWithin = time.Second

	// watchEvery is how often the watch wants to run.
	watchEvery = 10 * time.Millisecond

	settleEvery = 25 * time.Millisecond
	// settleWithin is far more than what is under way takes to arrive.
	settleWithin = 2 * time.Second
)

// play is one part of the demonstration: everybody sends, and the gateway receives.
type play struct {
	sink       *lab.UDPSink
	echo       *lab.EchoServer
	exchanges  *lab.TCPClient
	sources    []*source
	start      time.Time
	introduced chan struct{} // closed when the spoofed flood may begin
	stalled    atomic.Int64  // ns, the longest
	samples    []Measurement // those that the next rates are taken over
	rates      []float64     // of the sources, by the last sample
}

// play lets everybody send for d, and measures. observe sees how it goes.
func (s *stage) play(ctx context.Context, d time.Duration, observe func(Measurement)) (Measurement, error) {
	p, err := s.newPlay(d)
	if err != nil {
		return Measurement{}, err
	}
	// Two groups, because the receivers have to outlive the senders. A receiver that fails ends both.
	receivers, receiving := errgroup.WithContext(ctx)
	receiving, stop := context.WithCancel(receiving)
	defer stop()
	receivers.Go(func() error { return p.sink.Run(receiving) })
	receivers.Go(func() error { return p.echo.Run(receiving) })

	err = p.send(receiving, observe)
	if err == nil {
		err = s.settle(receiving, p)
	}
	stop()
	if err := errors.Join(receivers.Wait(), err, ctx.Err()); err != nil {
		return Measurement{}, err
	}
	return p.measure(p.sent(), time.Since(p.start)), nil
}

func (s *stage) newPlay(d time.Duration) (*play, error) {
	gateway := s.lab.Gateway()
	var known []netip.Addr
	for _, c := range cast() {
		known = append(known, addresses(s.lab, c)...)
	}
	sink, err := lab.NewUDPSink(gateway, udpPort, known...)
	if err != nil {
		return nil, err
	}
	echo, err := lab.NewEchoServer(gateway, echoPort)
	if err != nil {
		return nil, errors.Join(err, sink.Close())
	}
	p := &play{sink: sink, echo: echo, introduced: make(chan struct{})}
	for _, c := range cast() {
		source, err := newSource(s.lab, c, d, sink)
		if err != nil {
			return nil, errors.Join(err, sink.Close(), echo.Close())
		}
		if c.Kind == KindSpoofed {
			source.after = p.introduced
		}
		p.sources = append(p.sources, source)
		if c.Kind == KindGood {
			p.exchanges = &lab.TCPClient{
				Host: s.lab.Client(c.Name), Target: netip.AddrPortFrom(gateway.IPv4, echoPort), Timeout: answerTimeout,
				Load: lab.Load{Rate: exchangeRate, Duration: d},
			}
		}
	}
	return p, nil
}

// send runs all senders to their end, and samples meanwhile.
func (p *play) send(ctx context.Context, observe func(Measurement)) error {
	senders, sending := errgroup.WithContext(ctx)
	p.start = time.Now()
	p.rates = make([]float64, len(p.sources))
	p.samples = []Measurement{p.measure(p.sent(), 0)}
	for _, s := range p.sources {
		senders.Go(func() error { return s.send(sending) })
	}
	senders.Go(func() error { return p.exchanges.Run(sending) })
	senders.Go(func() error { p.introduce(sending); return nil })

	sending, stop := context.WithCancel(sending)
	defer stop()
	go p.watch(sending)
	ended := make(chan error, 1)
	go func() { ended <- senders.Wait() }()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var sent []uint64
	var later <-chan time.Time
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			sent, later = p.sent(), time.After(underWay)
		case <-later:
			observe(p.sample(sent))
		}
	}
}

// watch notes for how long the machine kept somebody waiting who wanted to run.
func (p *play) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if late := now.Sub(last) - watchEvery; late > time.Duration(p.stalled.Load()) {
			p.stalled.Store(int64(late))
		}
		last = now
	}
}

// introduce lets the spoofed flood begin when the application has heard of everybody else: before a flood comes, a host
// knows its clients. It waits for a moment only; if that does not do, the judgement tells.
func (p *play) introduce(ctx context.Context) {
	defer close(p.introduced)
	ctx, cancel := context.WithTimeout(ctx, introduceWithin)
	defer cancel()
	for !p.acquainted() {
		if p.sink.Await(ctx, p.sink.Total()+1) != nil {
			return
		}
	}
}

func (p *play) acquainted() bool {
	for _, s := range p.sources {
		switch s.client.Kind {
		case KindSpoofed, KindBanned:
		default:
			if s.passed() < s.client.Hosts {
				return false
			}
		}
	}
	return true
}

// sample measures, and brings the rates up to date.
func (p *play) sample(sent []uint64) Measurement {
	now := p.measure(sent, time.Since(p.start))
	since := p.samples[0]
	for i := range now.Clients {
		// The last sample is taken when nobody sends any more.
		if active := now.Clients[i].Active - since.Clients[i].Active; active > 0 {
			p.rates[i] = float64(now.Clients[i].Passed-since.Clients[i].Passed) / active.Seconds()
		}
		now.Clients[i].Rate = p.rates[i]
	}
	p.samples = append(p.samples, now)
	if len(p.samples) > rateSamples {
		p.samples = p.samples[1:]
	}
	return now
}

// sent is what each source has sent.
func (p *play) sent() []uint64 {
	var all []uint64
	for _, s := range p.sources {
		all = append(all, s.sent())
	}
	return all
}

func (p *play) measure(sent []uint64, elapsed time.Duration) Measurement {
	m := Measurement{Elapsed: elapsed, Stalled: time.Duration(p.stalled.Load()), Exchanges: Exchanges{
		OK: p.exchanges.Sent(), Failed: p.exchanges.Failed(),
		P50: p.exchanges.Latency.Quantile(0.5), P99: p.exchanges.Latency.Quantile(0.99),
	}}
	for i, s := range p.sources {
		c := s.read(sent[i], elapsed)
		c.Rate = p.rates[i]
		m.Clients = append(m.Clients, c)
	}
	return m
}

// settle waits, once nobody sends any more, for what is under way: until nothing moves and, with weir, the application has got as
// much as weir let pass. If that does not come about, waiting longer does not help, and the judgement says so.
func (s *stage) settle(ctx context.Context, p *play) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for last := p.sink.Total(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		total := p.sink.Total()
		still := total == last
		last = total
		if !still {
			continue
		}
		if !s.attached {
			return nil
		}
		k, err := s.kernel()
		if err != nil || k.Passed == total+k.Segments {
			return err
		}
	}
}
