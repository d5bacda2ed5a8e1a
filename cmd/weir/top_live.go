package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/weir-limiter/weir/internal/top"
)

// liveTerminal is the terminal that a view can be kept up to date on; nil if the output is none.
func liveTerminal(e *env) *os.File {
	file, ok := e.out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return file
}

// topWidth is how many columns out has; 0 if it has no end.
func topWidth(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// topLive keeps the terminal up to date until a key or a signal ends it.
func topLive(ctx, collecting context.Context, e *env, file *os.File, source topSource, q top.Query) error {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	ticker := time.NewTicker(topEvery)
	defer ticker.Stop()
	t := openTerminal(file)
	defer t.close()
	s := &topScreen{
		out: file, colour: e.colour, keys: t.keys, resized: resized, tick: ticker.C,
		size: func() (int, int, error) { return term.GetSize(int(file.Fd())) },
	}
	return s.run(ctx, collecting, source, q)
}

// topScreen is the live view, with all that it has from outside.
type topScreen struct {
	out     io.Writer
	colour  bool
	size    func() (width, height int, err error)
	keys    <-chan byte
	resized <-chan os.Signal
	tick    <-chan time.Time
}

// run draws until q is pressed or one of the contexts ends.
func (s *topScreen) run(ctx, collecting context.Context, source topSource, q top.Query) error {
	for {
		r, err := source.Report(collecting, q)
		if err != nil {
			if collecting.Err() != nil {
				return nil // with an error of the other one
			}
			return err
		}
		if err := s.draw(r); err != nil {
			return err
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case <-collecting.Done():
				return nil
			case <-s.resized:
				if err := s.draw(r); err != nil {
					return err
				}
			case <-s.tick:
				again = true
			case key := <-s.keys:
				if key == 'q' || key == 'Q' {
					return nil
				}
				again = chooseRanking(&q, key)
			}
		}
	}
}

// chooseRanking does what a key asks for; false if it asks for nothing.
func chooseRanking(q *top.Query, key byte) bool {
	by, ok := map[byte]top.By{'p': top.ByPassed, 'd': top.ByDropped, 'b': top.ByBytes}[key]
	if ok {
		q.By = by
	}
	return ok
}

// draw writes a whole screen at once: over the old one, so that nothing flickers.
func (s *topScreen) draw(r *top.Report) error {
	width, height, err := s.size()
	if err != nil {
		return err
	}
	var view bytes.Buffer
	p := &page{w: &view, colour: s.colour}
	writeTop(p, r, topLayout{width: width, height: height, live: true})
	lines := strings.Split(strings.TrimSuffix(view.String(), "\n"), "\n")
	if len(lines) > height {
		lines = lines[:height]
	}
	const home, clearLine, clearBelow = "\x1b[H", "\x1b[K", "\x1b[J"
	_, err = io.WriteString(s.out, home+strings.Join(lines, clearLine+"\n")+clearLine+clearBelow)
	return err
}
