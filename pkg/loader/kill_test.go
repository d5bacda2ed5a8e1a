package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// victimVariable makes the test binary a process that is to be killed at a step of a change.
const victimVariable = "WEIR_TEST_VICTIM"

// errand is what a victim has to do.
type errand struct {
	State, Name string
	At          []target
	Set         *set // nil: detach everything
	KillAt      int  // the step, from 0
}

// beVictim does an errand, and kills itself on the way. It returns if there was no such step.
func beVictim(text string) (code int) {
	var e errand
	err := json.Unmarshal([]byte(text), &e)
	if err == nil {
		err = e.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (e *errand) run() error {
	d, err := Lock(e.State, patience)
	if err != nil {
		return err
	}
	step := 0
	d.onStep = func(string) error {
		if step == e.KillAt {
			if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
				return err
			}
			select {} // it is delivered before anything else happens here
		}
		step++
		return nil
	}
	if e.Set == nil {
		return errors.Join(d.DetachAll(), d.Close())
	}
	all, err := options(e.Name, e.At, *e.Set)
	if err != nil {
		return err
	}
	_, err = d.AttachAll(all)
	return errors.Join(err, d.Close())
}

// kill runs an errand in a process of its own; false if that ended before the step at which it was to be killed.
func (s *stage) kill(e errand) bool {
	s.Helper()
	e.State, e.Name = s.state, s.name
	text, err := json.Marshal(e)
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := s.ns.Do(cmd.Start); err != nil {
		s.Fatal(err)
	}
	err = cmd.Wait()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		s.Fatalf("the victim was not killed: %v", err)
	}
	return true
}

// minSteps is a lower bound of the steps of a change of three hooks: less would mean that they are not called.
const minSteps = 15

// Whoever changes the policies of three hooks is killed before every step. After each, every hook limits packets by
// the old set or the new one, status tells which, and the next change finds a way on and clears up.
func TestKilledAtEveryStepOfAReload(t *testing.T) {
	s := newStage(t)
	s.mustAttach(everyHook, oldSet)
	whole := s.objects()
	mixed, step := 0, 0
	for ; s.kill(errand{At: everyHook, Set: &newSet, KillAt: step}); step++ {
		found := s.inForceAt(everyHook)
		changed := 0
		for _, x := range everyHook {
			switch found[x] {
			case newSet:
				changed++
			case oldSet:
			default:
				t.Errorf("killed at step %d: %v enforces %v", step, x, found[x])
			}
		}
		if changed > 0 && changed < len(everyHook) {
			mixed++
		}
		s.mustAttach(everyHook, oldSet)
		s.expectEverywhere(everyHook, oldSet)
		s.expectObjects(whole)
		if t.Failed() {
			t.Fatalf("after step %d", step)
		}
	}
	s.expectEverywhere(everyHook, newSet)
	if step < minSteps || mixed == 0 {
		t.Errorf("%d steps, %d of them between two swaps: want %d at least, and one", step, mixed, minSteps)
	}
	t.Logf("killed at %d steps", step)
}

// firstHooks are one of each kind of hold, in the order in which they are attached to.
var firstHooks = []target{everyHook[0], everyHook[2]}

// The same from nothing: a hook has the new set or nothing. A detach takes all of it away, or another attach completes it.
func TestKilledAtEveryStepOfTheFirstAttach(t *testing.T) {
	for name, after := range map[string]func(*stage){
		"detach": func(s *stage) {},
		"attach": func(s *stage) {
			s.mustAttach(firstHooks, newSet)
			s.expectEverywhere(firstHooks, newSet)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			step := 0
			for ; s.kill(errand{At: firstHooks, Set: &newSet, KillAt: step}); step++ {
				for x, p := range s.inForceAt(firstHooks) {
					if p != newSet {
						t.Errorf("killed at step %d: %v enforces %v", step, x, p)
					}
				}
				after(s)
				s.detachAll()
				if t.Failed() {
					t.Fatalf("after step %d", step)
				}
			}
			if step < minSteps/2 {
				t.Errorf("%d steps, want %d at least", step, minSteps/2)
			}
			s.detachAll()
		})
	}
}

// A detach that is killed has taken some hooks off, and the others limit as before; another one takes the rest.
func TestKilledAtEveryStepOfADetach(t *testing.T) {
	s := newStage(t)
	step := 0
	for ; ; step++ {
		s.mustAttach(everyHook, oldSet)
		if !s.kill(errand{KillAt: step}) {
			break
		}
		for x, p := range s.inForceAt(everyHook) {
			if p != oldSet {
				t.Errorf("killed at step %d: %v enforces %v", step, x, p)
			}
		}
		s.detachAll()
		if t.Failed() {
			t.Fatalf("after step %d", step)
		}
	}
	if step < 2*len(everyHook) {
		t.Errorf("%d steps, want %d at least", step, 2*len(everyHook))
	}
	s.detachAll()
}

// detachAll takes everything off, and holds that nothing is left: no program, map, pin, link or queueing discipline.
func (s *stage) detachAll() {
	s.Helper()
	s.in(func() error { return s.withLock((*StateDir).DetachAll) })
	s.expectNothing()
}
