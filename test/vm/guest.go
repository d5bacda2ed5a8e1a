package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

// Where things are in the machine.
const (
	planPath    = "/plan.json"
	modulesPath = "/modules"
	binPath     = "/bin"
	testsPath   = "/tests"
	treePath    = "/weir" // what tests read of the repository
)

// guest is process 1: it makes the machine ready, runs the tests, and switches it off.
func guest() {
	if err := runGuest(); err != nil {
		fmt.Println("vm:", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("vm: power off:", err)
	}
}

func runGuest() error {
	if err := mountAll(); err != nil {
		return err
	}
	port, err := openPort("/dev/ttyS1")
	if err != nil {
		return err
	}
	defer port.Close()
	tell := json.NewEncoder(port)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	if err := tell.Encode(event{Action: actionBooted, Output: unix.ByteSliceToString(name.Release[:])}); err != nil {
		return err
	}
	end := event{Action: actionDone}
	if err := prepareAndTest(port); err != nil {
		end = event{Action: actionBroken, Output: err.Error()}
	}
	return tell.Encode(end)
}

func mountAll() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
		{"bpf", "/sys/fs/bpf"}, {"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// openPort opens a serial port that hands on what is written as it is.
func openPort(path string) (*os.File, error) {
	port, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	settings, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err == nil {
		settings.Oflag &^= unix.OPOST
		settings.Cflag = settings.Cflag&^unix.CBAUD | unix.B115200
		err = unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, settings)
	}
	if err != nil {
		port.Close()
		return nil, fmt.Errorf("set up %s: %w", path, err)
	}
	return port, nil
}

// prepareAndTest runs the plan. A test that fails is no error here: its events tell.
func prepareAndTest(port *os.File) error {
	var m machine
	plan, err := os.ReadFile(planPath)
	if err == nil {
		err = json.Unmarshal(plan, &m)
	}
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if n := runtime.NumCPU(); n != m.CPUs {
		return fmt.Errorf("the machine has %d CPUs, want %d", n, m.CPUs)
	}
	if err := loadModules(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	for _, s := range m.Suites {
		if err := s.start(port, m); err != nil {
			return fmt.Errorf("%s: %w", s.Package, err)
		}
	}
	return nil
}

// loadModules loads them in the order of their names, which is that of their dependencies.
func loadModules() error {
	paths, err := filepath.Glob(modulesPath + "/*.ko")
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("no kernel modules in %s (%v)", modulesPath, err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("load %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// differentialTime is for how long test/progrun's differential test draws scenarios: it runs for longer where it runs faster.
const differentialTime = "WEIR_DIFFERENTIAL=2s"

// start runs the suite to its end. test2json turns what the tests print into events, whatever they print.
func (s *suite) start(port *os.File, m machine) error {
	args := []string{
		"-p", s.Package, "-t", filepath.Join(testsPath, s.binary()), "-test.v=test2json",
		"-test.short", "-test.timeout=" + (m.Timeout * 9 / 10).String(), "-test.run=" + s.Run, "-test.skip=" + s.skip(),
	}
	cmd := exec.Command(filepath.Join(binPath, "test2json"), args...)
	cmd.Dir = filepath.Join(treePath, s.Package)
	cmd.Stdout, cmd.Stderr = port, os.Stderr
	cmd.Env = append(os.Environ(), "PATH="+binPath, "HOME=/tmp", testutil.WeirVariable+"="+filepath.Join(binPath, "weir"), differentialTime)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}
