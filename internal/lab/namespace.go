package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

var (
	// ErrClosed is returned by operations on a namespace that was closed.
	ErrClosed = errors.New("network namespace is closed")
	// ErrGoexit is returned by [Namespace.Do] when fn ended its goroutine instead of returning, as t.FailNow does.
	ErrGoexit = errors.New("function left its goroutine (t.Fatal inside Do?)")
)

// Namespace is an anonymous network namespace. Only a file descriptor of this process holds it, so the kernel frees
// it, with every interface in it, when the process ends in whatever way.
type Namespace struct {
	mu sync.Mutex
	fd int // -1 once closed
}

// NewNamespace creates a namespace with the loopback interface up and the settings of a quiet host (see [quietHost]).
// It needs CAP_SYS_ADMIN and CAP_NET_ADMIN. The caller must Close it.
func NewNamespace() (*Namespace, error) {
	ns := &Namespace{fd: -1}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("create network namespace: %w", mend(err))
		}
		fd, err := openThreadNamespace()
		if err != nil {
			return err
		}
		ns.fd = fd
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := ns.bringUp(); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// Do runs fn on a thread inside the namespace and returns fn's error. fn runs in a goroutine of its own, locked to its
// thread; goroutines that fn starts run outside the namespace, but sockets opened in fn belong to it for good.
// /proc/sys/net and /proc/thread-self/net show the namespace inside fn; /sys/class/net does not.
// A panic in fn is not recovered; runtime.Goexit in fn gives [ErrGoexit].
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return fn()
	})
}

// Path names the namespace for other processes, as in `nsenter --net=PATH`: it is valid while this process lives and
// the namespace is open. It is empty once the namespace is closed.
func (n *Namespace) Path() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd)
}

// Close gives the namespace up. The kernel frees it as soon as no socket and no thread uses it. Closing twice is harmless.
func (n *Namespace) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return nil
	}
	err := unix.Close(n.fd)
	n.fd = -1
	if err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}

// enter moves the calling thread into the namespace. The lock keeps Close from handing the descriptor's number to
// another file in between.
func (n *Namespace) enter() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return ErrClosed
	}
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", mend(err))
	}
	return nil
}

// onOwnThread runs fn on a locked thread, in a new goroutine, and takes the thread home to its network namespace
// afterwards. A new goroutine is what makes failure safe: if the thread cannot be taken home the goroutine ends
// without unlocking, and the runtime ends the thread with it.
func onOwnThread(fn func() error) error {
	err := ErrGoexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, homeErr := openThreadNamespace()
		if homeErr != nil {
			runtime.UnlockOSThread()
			err = homeErr
			return
		}
		defer unix.Close(home)
		defer func() {
			if unix.Setns(home, unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = fn()
	}()
	<-done
	return err
}

// openThreadNamespace opens the namespace of the calling thread; /proc/self would name the main thread's.
func openThreadNamespace() (int, error) {
	const path = "/proc/thread-self/ns/net"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w (is /proc mounted?)", path, err)
	}
	return fd, nil
}
