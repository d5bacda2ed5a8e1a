package ratesync

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Class is what kind of failure it was: a closed set, for the labels of metrics.
type Class uint8

// The classes of errors.
const (
	ClassOther    Class = iota
	ClassTimeout        // no answer in time, or no connection free
	ClassRefused        // no connection, or it broke
	ClassReadOnly       // a replica, or a master that lost its replicas
	ClassLoading        // Redis starts, or is busy with a script
	ClassOOM            // Redis has no memory left
	ClassNoAuth         // no user, wrong password, or no permission
	ClassMoved          // a Redis Cluster that is down, or moves slots
	ClassState          // [ErrState], of one operation
	classes       = iota
)

var classNames = [classes]string{"other", "timeout", "refused", "readonly", "loading", "oom", "noauth", "moved", "state"}

// String is the class as labels have it.
func (c Class) String() string { return classNames[c] }

// Classes lists all.
func Classes() (all []Class) {
	for c := range Class(classes) {
		all = append(all, c)
	}
	return all
}

// Error is a failure of [Redis]. Its text has no password of [Options] in it.
type Error struct {
	Class Class
	text  string
	err   error
}

// Error says what failed, and how to mend what can be mended.
func (e *Error) Error() string { return "redis: " + e.text + mends[e.Class] }

// Unwrap is the error of the client, whose text is not for logs.
func (e *Error) Unwrap() error { return e.err }

var mends = [classes]string{
	ClassReadOnly: " (point redis.url at the master, or use redis.sentinel)",
	ClassOOM:      " (raise maxmemory of Redis)",
	ClassNoAuth:   " (check user and password of redis; weir needs the commands of docs/CLUSTER.md and the keys of its prefix)",
}

// prefixes are how Redis begins its errors.
var prefixes = []struct {
	prefix string
	class  Class
}{
	{"READONLY", ClassReadOnly},
	{"NOREPLICAS", ClassReadOnly},
	{"LOADING", ClassLoading},
	{"BUSY", ClassLoading},
	{"MASTERDOWN", ClassLoading},
	{"OOM", ClassOOM},
	{"NOAUTH", ClassNoAuth},
	{"WRONGPASS", ClassNoAuth},
	{"NOPERM", ClassNoAuth},
	{"MOVED", ClassMoved},
	{"ASK", ClassMoved},
	{"TRYAGAIN", ClassMoved},
	{"CLUSTERDOWN", ClassMoved},
	{"CROSSSLOT", ClassMoved},
}

// Classify says what kind of failure an error of [Redis] or of its client is.
func Classify(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	if errors.Is(err, ErrState) {
		return ClassState
	}
	if e, ok := errors.AsType[redis.Error](err); ok {
		if class, known := classifyReply(e.Error()); known {
			return class
		}
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) {
		return ClassTimeout
	}
	_, system := errors.AsType[syscall.Errno](err)
	_, network := errors.AsType[*net.OpError](err)
	if system || network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, redis.ErrClosed) {
		return ClassRefused
	}
	return ClassOther
}

// classifyReply knows an error by its first word, which is all that Redis' protocol has of it. Redis 6.2 puts what a
// command in a script said after its own words, and a dash.
func classifyReply(text string) (Class, bool) {
	for _, p := range prefixes {
		if strings.HasPrefix(text, p.prefix) || strings.Contains(text, " -"+p.prefix+" ") {
			return p.class, true
		}
	}
	return ClassOther, false
}

// RedisStats counts what [Redis] did.
type RedisStats struct {
	Commands   uint64 // script calls, those among them that a NOSCRIPT made twice
	Keys       uint64 // buckets in them
	RoundTrips uint64 // pipelines; in a cluster one may go to several servers
	Kept       uint64 // takes of denied groups in a cluster that could not be given back
	Errors     [classes]uint64
}

// Stats counts since [Open].
func (r *Redis) Stats() (s RedisStats) {
	s.Commands, s.Keys, s.RoundTrips, s.Kept = r.commands.Load(), r.keys.Load(), r.trips.Load(), r.kept.Load()
	for i := range r.errors {
		s.Errors[i] = r.errors[i].Load()
	}
	return s
}
