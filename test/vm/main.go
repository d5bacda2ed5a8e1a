// Command vm boots other Linux kernels under qemu, in software, and runs the tests that need a kernel on them:
//
//	go run ./test/vm [-quick] [-kernel RELEASE] [-run PATTERN] [-v]
//
// Each machine is a kernel of build/kernels (scripts/vm-kernels.sh puts them there) and an initramfs with static test
// binaries. The same command is process 1 of the machine, which runs them and powers off. What ran is counted here, from
// the events that the machine writes on its second serial port: a machine that ran no tests, or did not come to its
// end, has failed. plan.go says which tests run where.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() == 1 {
		guest()
		return
	}
	kernel := flag.String("kernel", "", "only the machines of this release, such as 6.1")
	pattern := flag.String("run", "", "only the tests that match, as for go test")
	short := flag.Bool("quick", false, "only what make test runs of it")
	verbose := flag.Bool("v", false, "show what every test took")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	plan := machines
	if *short {
		plan = quick(plan)
	}
	if err := runMachines(ctx, choose(plan, *kernel, *pattern), *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		stop()
		os.Exit(1)
	}
}

// runMachines boots all at once, as each waits a good part of its time, and fails if one did.
func runMachines(ctx context.Context, machines []machine, verbose bool) error {
	if len(machines) == 0 {
		return fmt.Errorf("no such machine")
	}
	dir, err := os.MkdirTemp("", "weir-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	img, err := newImage(ctx, dir, machines)
	if err != nil {
		return err
	}
	tellLeftOut(os.Stdout, machines)
	var group errgroup.Group
	var failed atomic.Int64
	for _, m := range machines {
		group.Go(func() error {
			r, err := m.boot(ctx, img)
			if err != nil {
				return fmt.Errorf("kernel %s, %d CPUs: %w", m.Kernel, m.CPUs, err)
			}
			var text bytes.Buffer // whole, beside those of the others
			if !r.write(&text, m, verbose) {
				failed.Add(1)
			}
			_, err = text.WriteTo(os.Stdout)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if failed.Load() > 0 {
		return fmt.Errorf("%d of %d machines failed", failed.Load(), len(machines))
	}
	return nil
}

// tellLeftOut says what runs on none of these kernels.
func tellLeftOut(w io.Writer, machines []machine) {
	told := map[leftOut]bool{}
	for _, m := range machines {
		for _, s := range m.Suites {
			for _, l := range s.LeftOut {
				if !told[l] {
					fmt.Fprintf(w, "left out of %s: %s (%s)\n", s.Package, l.Pattern, l.Reason)
				}
				told[l] = true
			}
		}
	}
}
