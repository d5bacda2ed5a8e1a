package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/weir-limiter/weir/pkg/loader"
)

// lockWait is how long a command waits for another one that changes the state directory.
const lockWait = 5 * time.Second

// env is everything that a command has from outside, so that a test can give it other things.
type env struct {
	in       io.Reader
	out, err io.Writer
	colour   bool // out is a terminal, and the user did not ask for plain text (NO_COLOR)

	// The persistent flags.
	stateDir string
	runDir   string
	output   string
	debug    bool
}

func newEnv() *env {
	_, plain := os.LookupEnv("NO_COLOR")
	return &env{
		in:     os.Stdin,
		out:    os.Stdout,
		err:    os.Stderr,
		colour: term.IsTerminal(int(os.Stdout.Fd())) && !plain,
	}
}

// errUsage marks errors that come from how weir was called: exit code 2.
var errUsage = errors.New("usage")

// usageError is an error text for the user, without the marker's own text in it.
type usageError struct{ error }

func (usageError) Is(target error) bool { return target == errUsage }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// print shows v: as JSON if the user asked for it, else by text.
func (e *env) print(v any, text func(io.Writer) error) error {
	if e.output != "json" {
		return text(e.out)
	}
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// open opens the state directory for reading.
func (e *env) open() (*loader.StateDir, error) { return loader.Open(e.stateDir) }

// change opens the state directory, locked, calls do, and closes it.
func (e *env) change(do func(*loader.StateDir) error) (err error) {
	d, err := loader.Lock(e.stateDir, lockWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return do(d)
}
