package bench

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
)

// stampEvery is STAMP_EVERY in bpf/bench/sender.bpf.c, and how many frames the kernel makes at once by default: as many as a
// NIC's driver hands on in one go (NAPI_POLL_WEIGHT). A veth's ring holds four times that.
const stampEvery = 64

// sender sends live frames from one end of a cable.
type sender struct {
	objects senderObjects
	frame   []byte
	cpu     int
}

// sending is one turn of a sender.
type sending struct {
	frames uint64
	// perFrame is the time from one frame to the next, without the lead-in, in ns. As the receiver shares the CPU, it has what the
	// frame cost there in it.
	perFrame float64
	total    time.Duration // from the first frame of the lead-in to the last
}

// newSender makes a sender of 2^n sources, from the host to the one at the other end of its cable.
func newSender(from *lab.Host, sources uint64, cpu int) (_ *sender, err error) {
	spec, err := loadSender()
	if err != nil {
		return nil, err
	}
	s := &sender{frame: newFrame(), cpu: cpu}
	copy(s.frame, from.NextHop)
	copy(s.frame[6:], from.MAC)
	mask := sourceMask(sources)
	for name, value := range map[string]uint32{
		senderVarSourceMask:  mask,
		senderVarSourceFixed: frameSource &^ mask,
		senderVarHeaderSum:   headerSum(s.frame),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set the sender's %s: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&s.objects, nil); err != nil {
		return nil, fmt.Errorf("load the sender: %w (needs root, or CAP_BPF and CAP_NET_ADMIN)", err)
	}
	if err := s.plug(from); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// plug tells the program its end of the cable. The kernel looks for the interface in the namespace of the thread that tells.
func (s *sender) plug(from *lab.Host) error {
	index, err := from.Index()
	if err != nil {
		return err
	}
	err = from.Do(func() error { return s.objects.Cable.Put(uint32(0), uint32(index)) })
	if err != nil {
		return fmt.Errorf("plug the sender in: %w", err)
	}
	return nil
}

// send sends a lead-in and the frames to measure, and returns when the last is on the cable.
func (s *sender) send(leadIn, frames int) (sending, error) {
	leadIn = (leadIn + stampEvery - 1) / stampEvery * stampEvery
	if err := s.reset(leadIn); err != nil {
		return sending{}, err
	}
	err := onEach([]int{s.cpu}, func(int) error {
		_, err := s.objects.SendFrame.Run(&ebpf.RunOptions{
			Data: s.frame, Repeat: uint32(leadIn + frames), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		})
		return err
	})
	if err != nil {
		return sending{}, fmt.Errorf("send %d live frames: %w", leadIn+frames, err)
	}
	return s.read()
}

// reset starts the count at zero. The generator goes on from where it is.
func (s *sender) reset(leadIn int) error {
	cpus, err := s.state()
	if err != nil {
		return err
	}
	for i, c := range cpus {
		if c.Seed == 0 {
			c.Seed = uint64(i+1) * 0x9e3779b97f4a7c15 // any but 0, and the same in every run
		}
		cpus[i] = senderSent{Seed: c.Seed, LeadIn: uint64(leadIn)}
	}
	if err := s.objects.Sending.Put(uint32(0), cpus); err != nil {
		return fmt.Errorf("reset the sender: %w", err)
	}
	return nil
}

func (s *sender) read() (sending, error) {
	cpus, err := s.state()
	if err != nil {
		return sending{}, err
	}
	c := cpus[s.cpu]
	if c.Last <= c.LeadIn {
		return sending{}, fmt.Errorf("the sender sent %d frames of more than %d", c.Frames, c.LeadIn)
	}
	return sending{
		frames:   c.Frames,
		perFrame: float64(c.LastNs-c.FirstNs) / float64(c.Last-c.LeadIn),
		total:    time.Duration(c.LastNs - c.BeginNs),
	}, nil
}

func (s *sender) state() (cpus []senderSent, err error) {
	if err := s.objects.Sending.Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("read the sender's counts: %w", err)
	}
	return cpus, nil
}

// Close unloads the sender.
func (s *sender) Close() error { return s.objects.Close() }
