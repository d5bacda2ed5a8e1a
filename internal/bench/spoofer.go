package bench

import "github.com/cilium/ebpf"

// Spoofer sends a program packets from random sources, all of the 2^32 IPv4 addresses among them, by
// BPF_PROG_TEST_RUN. The sequence is the same in every run.
type Spoofer struct{ driver *driver }

// NewSpoofer makes a spoofer for a program, which must be an XDP program that knows of packets in several
// buffers where the kernel does, as weir's own.
func NewSpoofer(program *ebpf.Program) (*Spoofer, error) {
	d, err := newDriver(1<<32, program)
	if err != nil {
		return nil, err
	}
	return &Spoofer{d}, nil
}

// Send runs the program on so many packets. To begin and to end it takes the kernel milliseconds.
func (s *Spoofer) Send(packets int) error {
	_, _, err := s.driver.run(packets)
	return err
}

// Close unloads the spoofer, not the program.
func (s *Spoofer) Close() error { return s.driver.Close() }
