// Command kernels is process 1 of the virtual machines that scripts/test-kernels.sh boots: it runs the
// test binaries beside it, and switches the machine off. Its last line says whether all of them passed.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	failed := 0
	for _, step := range []func() error{mountAll, runTests} {
		if err := step(); err != nil {
			fmt.Println("kernels:", err)
			failed++
		}
	}
	fmt.Printf("kernels: %d steps failed\n", failed)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("kernels: power off:", err)
	}
}

func mountAll() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"bpf", "/sys/fs/bpf"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// runTests runs every /tests/NAME.test, from the directory that its package has in the repository.
func runTests() error {
	tests, err := filepath.Glob("/tests/*.test")
	if err != nil || len(tests) == 0 {
		return fmt.Errorf("no tests in /tests (%v)", err)
	}
	for _, test := range tests {
		cmd := exec.Command(test, os.Args[1:]...)
		cmd.Dir = "/repository/test/progrun" // wherever testdata is ../../testdata
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", test, err)
		}
	}
	return nil
}
