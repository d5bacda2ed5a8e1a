package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// tableEntries is the default of the configuration file: what the demo shows is the product as it comes.
	tableEntries = 1 << 20
	// lockWait is for another demo that is just looking whether this one's directory is an abandoned one.
	lockWait = time.Second
)

// stage is what the demo builds and has to remove.
type stage struct {
	lab      *lab.Lab
	state    *loader.StateDir
	attached bool
	attempt  int // how often weir was attached
	// segments is how many TCP segments the gateway had received when weir was attached.
	segments uint64
}

// newStage builds everything but the attachment. The stage is to be closed on an error too.
func newStage(ctx context.Context, o Options) (*stage, error) {
	s := &stage{}
	if os.Geteuid() != 0 {
		return s, errors.New("the demo needs root, for network namespaces and XDP (run: sudo weir demo)")
	}
	// Now, and not after two seconds of traffic: what most likely objects is the verifier.
	if err := loader.ProbeProgram(); err != nil {
		return s, fmt.Errorf("try weir's program in this kernel: %w; %s", err, mend(err))
	}
	if err := sweep(o.PinDir); err != nil {
		return s, err
	}
	var err error
	if s.state, err = loader.Lock(filepath.Join(o.PinDir, pinName()), lockWait); err != nil {
		return s, err
	}
	s.lab, err = lab.New(ctx, lab.Topology{Clients: hostNames()})
	return s, err
}

// mend is what to do about a program that can't be loaded. Root may lack privileges too: in a container.
func mend(err error) string {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return "run the demo as root, in a container with --privileged"
	}
	return "weir doctor tells what this kernel lacks"
}

// attach puts weir on the gateway's interface, with an empty table and counters at zero, and bans who is to be banned for
// longer than the part that follows can take.
func (s *stage) attach(d time.Duration) (err error) {
	if err := s.state.DetachAll(); err != nil { // what an earlier attempt attached
		return err
	}
	gateway := s.lab.Gateway()
	if s.segments, err = tcpSegments(gateway); err != nil {
		return err
	}
	err = gateway.Do(func() error {
		_, err := s.state.Attach(loader.AttachOptions{
			Interface: gateway.Interface, Mode: loader.ModeAuto,
			Policies: Policies(), TableEntries: tableEntries,
		})
		return err
	})
	if err != nil {
		return err
	}
	s.attached = true
	s.attempt++
	for _, c := range cast() {
		if c.Kind != KindBanned {
			continue
		}
		if _, err := s.state.Ban(netip.PrefixFrom(s.lab.Client(c.Name).IPv4, 32), d+time.Hour); err != nil {
			return err
		}
	}
	return nil
}

// close removes everything. It takes no context, since it has to do its work after that of the demo has ended, and it waits for
// nobody.
func (s *stage) close() error {
	var errs []error
	if s.state != nil {
		errs = append(errs, s.state.DetachAll(), s.state.Close())
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the demo: %w", err)
	}
	return nil
}

// kernel reads what weir counted, beside what the gateway's TCP received in the same time.
func (s *stage) kernel() (Kernel, error) {
	all, err := s.state.Attachments()
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	for _, a := range all {
		// What passes is counted by every policy that let it, and what does not by the one that denied it.
		k.Passed += a.Counters.Policies[PerClient().Name][policy.VerdictPass].Packets
		for _, counts := range a.Counters.Policies {
			k.Dropped += counts[policy.VerdictDrop].Packets
		}
		k.Strangers += a.Counters.Strangers[PerClient().Name]
		k.Banned += a.Counters.Listed[string(policy.ListBan)].Packets
	}
	k.Dropped += k.Banned
	segments, err := tcpSegments(s.lab.Gateway())
	k.Segments = segments - s.segments
	return k, err
}
