package lab

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FrameFunc produces the next frame. It may write it into buf, of 2048 bytes, or return a slice of its own; either must
// stay unchanged for the next 63 calls.
type FrameFunc func(buf []byte) []byte

// Cycle repeats the given frames for ever.
func Cycle(frames ...[]byte) FrameFunc {
	i := -1
	return func([]byte) []byte {
		i = (i + 1) % len(frames)
		return frames[i]
	}
}

// Injector puts raw frames on the cable of a host, past its IP stack and past its queueing discipline.
type Injector struct {
	Host *Host
	Next FrameFunc
	Load Load
	// Retry waits for room in a full receive queue instead of counting a failure. It can do so where the kernel's veth reports
	// the full queue, which old kernels do not: there a test has to compare with what arrived.
	Retry bool
	Counters
}

// Run sends until the load is complete or ctx is done. It may be called once.
func (j *Injector) Run(ctx context.Context) error {
	if err := j.run(ctx); err != nil {
		return fmt.Errorf("inject from %s: %w", j.Host.Name, err)
	}
	return nil
}

func (j *Injector) run(ctx context.Context) error {
	if err := j.Load.Validate(); err != nil {
		return err
	}
	s, err := openPacketSocket(j.Host, 0, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	})
	if err != nil {
		return err
	}
	defer s.close()
	b, bufs := newBatch(), newBuffers(2048)
	sender := sender{socket: s, batch: b, counters: &j.Counters, retry: j.Retry}
	sender.prepare = func(i int) { b.set(i, j.Next(bufs[i])) }
	err = sender.run(ctx, j.Load)
	if errors.Is(err, unix.EMSGSIZE) {
		return fmt.Errorf("%w (the frame is longer than the MTU allows: raise PairSpec.MTU)", err)
	}
	return err
}

// Inject sends each frame once, in order, at rate frames per second (0: as fast as it goes), and loses none on the way out.
func Inject(ctx context.Context, from *Host, rate float64, frames ...[]byte) error {
	j := Injector{Host: from, Next: Cycle(frames...), Load: Load{Rate: rate, Count: uint64(len(frames))}, Retry: true}
	if len(frames) == 0 {
		return nil
	}
	if err := j.Run(ctx); err != nil {
		return err
	}
	if n := j.Sent(); n < uint64(len(frames)) {
		return fmt.Errorf("inject from %s: %d of %d frames sent, %d refused: %w", from.Name, n, len(frames), j.Failed(), context.Cause(ctx))
	}
	return nil
}

func newBuffers(size int) [][]byte {
	bufs := make([][]byte, batchSize)
	for i := range bufs {
		bufs[i] = make([]byte, size)
	}
	return bufs
}
