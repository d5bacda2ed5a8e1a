package fallback_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/weir-limiter/weir/pkg/fallback"
)

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		err     error
		class   string
		failure bool
	}{
		{nil, "", false},
		{errors.New("redis 10.0.0.1 is odd"), "other", true},
		{context.Canceled, "canceled", false},
		{context.DeadlineExceeded, "timeout", true},
		{os.ErrDeadlineExceeded, "timeout", true},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "timeout", true},
		{errRefused, "refused", true},
		{&net.OpError{Op: "dial", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ENOENT}}, "refused", true},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, "unreachable", true},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, "closed", true},
		{fmt.Errorf("asking: %w", io.EOF), "closed", true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "redis.internal"}}, "name", true},
		{x509.UnknownAuthorityError{}, "tls", true},
		{redisError("READONLY You can't write against a read only replica."), "readonly", true},
		{redisError("LOADING Redis is loading the dataset in memory"), "loading", true},
		{redisError("OOM command not allowed when used memory > 'maxmemory'."), "oom", true},
		{redisError("NOAUTH Authentication required."), "unauthorized", true},
		{redisError("WRONGPASS invalid username-password pair or user is disabled."), "unauthorized", true},
		{redisError("NOPERM this user has no permissions"), "unauthorized", true},
		{redisError("CLUSTERDOWN The cluster is down"), "down", true},
		{redisError("BUSY Redis is busy running a script."), "busy", true},
		{redisError("ERR unknown command 'EVALSHA'"), "reply", true},
		{redisError(""), "other", true},
		{fmt.Errorf("bucket: %w", redisError("WRONGTYPE Operation against a key")), "reply", false},
		{redisError("redis: nil"), "reply", false},
	} {
		if got := fallback.ClassOf(c.err).String(); got != c.class {
			t.Errorf("%v: class %q, want %q", c.err, got, c.class)
		}
		if got := fallback.IsFailure(c.err); got != c.failure {
			t.Errorf("%v: failure %v", c.err, got)
		}
	}
	if got := fallback.Class(200).String(); got != "other" {
		t.Errorf("an unknown class is %q", got)
	}
}
