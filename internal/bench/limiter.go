package bench

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// limiter is something at the receiving end that lets few frames through.
type limiter interface {
	// counts is how many frames it dropped and admitted since it was made. What it admitted goes no further.
	counts() (limited, admitted uint64, err error)
	Close() error
}

// hooked is a limiter in the interface's driver: an XDP program.
type hooked struct {
	weir  *weir // nil: the one that drops all
	links []link.Link
}

// newDropper is the floor: a program that drops every frame in the driver, unseen.
func newDropper(h *lab.Host, s *sender) (limiter, error) {
	x := &hooked{}
	return x, x.attach(h, s.objects.DropUnseen)
}

// newWeirLimiter attaches the shipped program, and behind it the end of what it admits. Before Linux 6.6, which has no tcx, that
// goes up to the host's stack instead, at weir's cost.
func newWeirLimiter(h *lab.Host, s *sender, w *weir) (limiter, error) {
	x := &hooked{weir: w}
	if err := x.attach(h, w.program()); err != nil {
		return x, err
	}
	err := x.hook(h, func(index int) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: s.objects.End, Interface: index, Attach: ebpf.AttachTCXIngress})
	})
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return x, fmt.Errorf("attach the end behind the driver: %w", err)
	}
	return x, nil
}

func (x *hooked) attach(h *lab.Host, p *ebpf.Program) error {
	err := x.hook(h, func(index int) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: link.XDPDriverMode})
	})
	if err != nil {
		return fmt.Errorf("attach to the receiver's driver: %w", err)
	}
	return nil
}

func (x *hooked) hook(h *lab.Host, attach func(index int) (link.Link, error)) error {
	index, err := h.Index()
	if err != nil {
		return err
	}
	return h.Do(func() error {
		l, err := attach(index)
		if err == nil {
			x.links = append(x.links, l)
		}
		return err
	})
}

func (x *hooked) counts() (limited, admitted uint64, err error) {
	if x.weir == nil {
		return 0, 0, nil // it counts nothing
	}
	t, err := x.weir.tally()
	return t[policy.VerdictDrop], t[policy.VerdictPass], err
}

// Close detaches.
func (x *hooked) Close() error {
	var errs []error
	for _, l := range x.links {
		errs = append(errs, l.Close())
	}
	if x.weir != nil {
		errs = append(errs, x.weir.Close())
	}
	return errors.Join(errs...)
}
