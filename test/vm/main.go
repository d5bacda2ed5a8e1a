// Command vm boots other Linux kernels under qemu, in software, and runs the tests that need a kernel on them:
//
//	go run ./test/vm [-kernel RELEASE] [-run PATTERN] [-v]
//
// Each machine is a kernel of build/kernels (scripts/vm-kernels.sh puts them there) and an initramfs with static test
// binaries. The same command is process 1 of the machine, which runs them and powers off. What ran is counted here, from
// the events that the machine writes on its second serial port: a machine that ran no tests, or did not come to its
// end, has failed. plan.go says which tests run where.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() == 1 {
		guest()
		return
	}
	kernel := flag.String("kernel", "", "only the machines of this release, such as 6.1")
	pattern := flag.String("run", "", "only the tests that match, as for go test")
	verbose := flag.Bool("v", false, "show what every test took")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := runMachines(ctx, choose(machines, *kernel, *pattern), *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		stop()
		os.Exit(1)
	}
}

// runMachines boots one after the other, as they would only take the processors from each other, and fails if one did.
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
	failed := 0
	for _, m := range machines {
		r, err := m.boot(ctx, img)
		if err != nil {
			return fmt.Errorf("kernel %s, %d CPUs: %w", m.Kernel, m.CPUs, err)
		}
		if !r.write(os.Stdout, m, verbose) {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d machines failed", failed, len(machines))
	}
	return nil
}
