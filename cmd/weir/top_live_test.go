package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/internal/top"
)

// pty is a terminal, with what it shows.
type pty struct {
	t             *testing.T
	master, slave *os.File
	mu            sync.Mutex
	shown         bytes.Buffer
	done          chan struct{}
}

func newPTY(t *testing.T, width, height uint16) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: master, done: make(chan struct{})}
	var number int
	p.control(func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	p.resize(width, height)
	if p.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	go p.read()
	t.Cleanup(func() {
		p.slave.Close()
		p.master.Close()
		<-p.done
	})
	return p
}

func (p *pty) control(do func(fd int) error) {
	p.t.Helper()
	raw, err := p.master.SyscallConn()
	if err == nil {
		if controlErr := raw.Control(func(fd uintptr) { err = do(int(fd)) }); controlErr != nil {
			err = controlErr
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) resize(width, height uint16) {
	p.t.Helper()
	p.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
}

func (p *pty) read() {
	defer close(p.done)
	buffer := make([]byte, 4096)
	for {
		n, err := p.master.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.shown.Write(buffer[:n])
		p.mu.Unlock()
	}
}

// await waits until the terminal was shown a text that often, and returns all that it was shown.
func (p *pty) await(text string, times int) string {
	p.t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		shown := p.shown.String()
		p.mu.Unlock()
		if strings.Count(shown, text) >= times {
			return shown
		}
		select {
		case <-poll.C:
		case <-deadline:
			p.t.Fatalf("waited in vain for %d times %q in %q", times, text, shown)
		}
	}
}

func (p *pty) press(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// modes are the terminal's local modes.
func (p *pty) modes() (modes uint32) {
	p.t.Helper()
	p.control(func(fd int) error {
		termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			modes = termios.Lflag
		}
		return err
	})
	return modes
}

// The live view on a real terminal: it takes the other screen, obeys keys, and gives all back.
func TestTopLive(t *testing.T) {
	testutil.NoLeaks(t)
	t.Setenv("TERM", "xterm")
	for _, end := range []string{"q", "a signal"} {
		t.Run(end, func(t *testing.T) {
			p := newPTY(t, 130, 40)
			before := p.modes()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				e := &env{out: p.slave, output: "text"}
				done <- watchTop(ctx, e, &toldTop{report: topReport()}, topOptions{query: top.Query{By: top.ByPassed}})
			}()
			p.await("q quit", 1)
			if got := p.modes(); got&(unix.ICANON|unix.ECHO) != 0 || got&unix.ISIG == 0 {
				t.Errorf("local modes %x: want keys at once and unseen, and Ctrl-C a signal", got)
			}
			p.press("xb")
			p.await("busiest, by bytes that passed", 1)
			if end == "q" {
				p.press("q")
			} else {
				cancel()
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			shown := p.await(leaveScreen, 1)
			if !strings.HasPrefix(shown, enterScreen+"\x1b[H"+"weir top  2 attachments") || !strings.HasSuffix(shown, leaveScreen) {
				t.Errorf("shown: %q", shown)
			}
			if p.modes() != before {
				t.Errorf("local modes %x, want them as they were: %x", p.modes(), before)
			}
		})
	}
}

// frames are what a screen was given, one by one.
type frames chan string

func (f frames) Write(b []byte) (int, error) {
	f <- string(b)
	return len(b), nil
}

// Each tick shows a new report, a resize the old one anew; neither leaves anything of what was there.
func TestTopScreen(t *testing.T) {
	shown, keys, resized, tick := make(frames), make(chan byte), make(chan os.Signal), make(chan time.Time)
	var mu sync.Mutex
	width, height := 130, 40
	source := &toldTop{report: topReport()}
	s := &topScreen{out: shown, keys: keys, resized: resized, tick: tick, size: func() (int, int, error) {
		mu.Lock()
		defer mu.Unlock()
		return width, height, nil
	}}
	done := make(chan error, 1)
	go func() { done <- s.run(t.Context(), t.Context(), source, top.Query{By: top.ByPassed}) }()
	first := <-shown
	if !strings.HasPrefix(first, "\x1b[H") || !strings.HasSuffix(first, "q quit\x1b[K\x1b[J") ||
		strings.Count(first, "\n") != strings.Count(first, "\x1b[K\n") || strings.Count(first, "\n") != 16 {
		t.Errorf("first frame: %q", first)
	}
	mu.Lock()
	width, height = 90, 5
	mu.Unlock()
	resized <- unix.SIGWINCH
	if small := <-shown; strings.Count(small, "\n") != 4 || strings.Contains(small, "LAST") {
		t.Errorf("after the resize: %q", small)
	}
	if n := len(source.asked); n != 1 {
		t.Errorf("asked %d times for two frames", n)
	}
	tick <- time.Time{}
	<-shown
	keys <- 'd'
	<-shown
	keys <- 'Q'
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(source.asked); n != 3 || source.asked[2].By != top.ByDropped {
		t.Errorf("asked %+v", source.asked)
	}
}

func TestTopScreenFails(t *testing.T) {
	s := &topScreen{size: func() (int, int, error) { return 0, 0, errTop }}
	if err := s.run(t.Context(), t.Context(), &toldTop{report: topReport()}, top.Query{}); err != errTop {
		t.Errorf("no size: %v", err)
	}
	if err := s.run(t.Context(), t.Context(), &toldTop{report: topReport(), err: errTop}, top.Query{}); err != errTop {
		t.Errorf("no report: %v", err)
	}
}
