package lab

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// sender pushes batches through a socket and counts.
type sender struct {
	socket   *socket
	batch    *batch
	counters *Counters
	prepare  func(i int) // fills message i of the batch; nil if all are filled for good
	retry    bool        // a full queue is waited for, not a failure
}

// run sends what the load demands.
func (s *sender) run(ctx context.Context, l Load) error {
	defer s.socket.interruptWhenDone(ctx)()
	return l.run(ctx, func(n int) error { return s.send(ctx, n) })
}

// send sends n messages, as many at a time as the batch holds. It returns nil when ctx ends it.
func (s *sender) send(ctx context.Context, n int) error {
	for n > 0 && ctx.Err() == nil {
		now := min(n, len(s.batch.messages))
		if s.prepare != nil {
			for i := range now {
				s.prepare(i)
			}
		}
		if err := s.flush(ctx, now); err != nil {
			return err
		}
		n -= now
	}
	return nil
}

// flush sends the first n messages of the batch.
func (s *sender) flush(ctx context.Context, n int) error {
	for from := 0; from < n && ctx.Err() == nil; {
		took, err := s.batch.send(s.socket.fd, from, n)
		s.counters.sent.Add(uint64(took))
		from += took
		switch {
		case err == nil, errors.Is(err, unix.EINTR), s.retry && errors.Is(err, unix.ENOBUFS):
		case errors.Is(err, unix.EAGAIN):
			if err := s.socket.wait(unix.POLLOUT); err != nil {
				return err
			}
		case concernsOne(err):
			s.counters.failed.Add(1)
			from++
		default:
			return err
		}
	}
	return nil
}

// concernsOne tells what happened to one message, or is the ICMP error of an earlier one, from what will happen to all.
func concernsOne(err error) bool {
	switch {
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ECONNREFUSED),
		errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return true
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return true // a program or a firewall on the way out dropped it
	}
	return false
}
