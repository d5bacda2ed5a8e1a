package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// The other screen, without a cursor, and with lines that are cut and not broken; and back.
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// terminal is a terminal whose whole screen is drawn on, and whose keys come one by one.
type terminal struct {
	out    *os.File
	keys   chan byte // nil: the keys can't be read
	in     *os.File
	before *unix.Termios

	closing, done chan struct{}
}

// openTerminal takes the screen, until close. Keys are read from the terminal that out is, as the standard
// input may be something else. Without them there is still Ctrl-C, which stays a signal.
func openTerminal(out *os.File) *terminal {
	t := &terminal{out: out, closing: make(chan struct{}), done: make(chan struct{})}
	_, _ = out.WriteString(enterScreen) // if that fails, so does the first drawing
	// A file of its own, whose reads can be interrupted.
	in, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", out.Fd()), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		close(t.done)
		return t
	}
	t.in, t.keys = in, make(chan byte)
	t.quiet()
	go t.read()
	return t
}

// quiet hands on keys at once and does not show them. It leaves Ctrl-C and the ends of lines as they are, but
// not Ctrl-Z: the shell would be on the other screen.
func (t *terminal) quiet() {
	t.control(func(fd int) {
		before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return
		}
		quiet := *before
		quiet.Lflag &^= unix.ICANON | unix.ECHO
		quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
		quiet.Cc[unix.VSUSP] = 0
		if unix.IoctlSetTermios(fd, unix.TCSETS, &quiet) == nil {
			t.before = before
		}
	})
}

// control calls do without making reads block, as Fd would.
func (t *terminal) control(do func(fd int)) {
	if raw, err := t.in.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// read hands on keys until close.
func (t *terminal) read() {
	defer close(t.done)
	buffer := make([]byte, 1)
	for {
		if n, err := t.in.Read(buffer); n == 0 || err != nil {
			return
		}
		select {
		case t.keys <- buffer[0]:
		case <-t.closing:
			return
		}
	}
}

// close gives the terminal back as it was.
func (t *terminal) close() {
	close(t.closing)
	if t.in != nil {
		if t.before != nil {
			t.control(func(fd int) { _ = unix.IoctlSetTermios(fd, unix.TCSETS, t.before) })
		}
		t.in.Close() // which ends a read
	}
	<-t.done
	_, _ = t.out.WriteString(leaveScreen) // there is nobody to tell
}
