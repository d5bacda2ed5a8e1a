package fallback

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// Class is the kind of an error: all of it that logs, metrics and alerts may tell, as its text could name addresses and
// keys.
type Class uint8

// The classes. Those from Readonly on are answers of Redis itself, which is there but can't be used.
const (
	None Class = iota
	Other
	Timeout
	Refused
	Unreachable
	Closed // the connection broke
	Name   // the host's name could not be resolved
	TLS
	Canceled
	Readonly
	Loading
	OutOfMemory
	Unauthorized
	Down // a cluster or its replica without a master
	Busy // a script blocks it, or it has too many connections
	Reply
)

var classNames = [...]string{
	None: "", Other: "other", Timeout: "timeout", Refused: "refused", Unreachable: "unreachable", Closed: "closed", Name: "name",
	TLS: "tls", Canceled: "canceled", Readonly: "readonly", Loading: "loading", OutOfMemory: "oom", Unauthorized: "unauthorized",
	Down: "down", Busy: "busy", Reply: "reply",
}

// String is the class's name in logs and alerts: short, lower case, "" for no error.
func (c Class) String() string {
	if int(c) >= len(classNames) {
		c = Other
	}
	return classNames[c]
}

// redisCodes are the first words of Redis' errors: they are its protocol's error codes, and the only part that is.
var redisCodes = map[string]Class{
	"READONLY": Readonly, "LOADING": Loading, "OOM": OutOfMemory, "NOAUTH": Unauthorized, "WRONGPASS": Unauthorized,
	"NOPERM": Unauthorized, "CLUSTERDOWN": Down, "MASTERDOWN": Down, "NOREPLICAS": Down, "MISCONF": Readonly,
	"TRYAGAIN": Down, "BUSY": Busy,
}

// aboutKeys are the codes of errors that say something of a key or of the question, and nothing of the store: "redis:" is
// the client's word for an absent value.
var aboutKeys = map[string]bool{"WRONGTYPE": true, "redis:": true}

// replied is how the clients of Redis mark what the server answered.
type replied interface {
	error
	RedisError()
}

// code is the error code of what Redis answered, "" if it did not.
func code(err error) string {
	var r replied
	if !errors.As(err, &r) {
		return ""
	}
	word, _, _ := strings.Cut(r.Error(), " ")
	return word
}

// ClassOf tells the class of an error.
func ClassOf(err error) Class {
	if err == nil {
		return None
	}
	if word := code(err); word != "" {
		if c, ok := redisCodes[word]; ok {
			return c
		}
		return Reply
	}
	for _, known := range []struct {
		err   error
		class Class
	}{
		{context.DeadlineExceeded, Timeout}, {context.Canceled, Canceled},
		{syscall.ECONNREFUSED, Refused}, {syscall.ENOENT, Refused}, // no unix socket: nobody listens
		{syscall.EHOSTUNREACH, Unreachable}, {syscall.ENETUNREACH, Unreachable}, {syscall.ENETDOWN, Unreachable},
		{syscall.ECONNRESET, Closed}, {syscall.EPIPE, Closed}, {io.EOF, Closed}, {io.ErrUnexpectedEOF, Closed}, {net.ErrClosed, Closed},
	} {
		if errors.Is(err, known.err) {
			return known.class
		}
	}
	return classOfType(err)
}

// classOfType is ClassOf for errors that are known by their type.
func classOfType(err error) Class {
	var (
		dns     *net.DNSError
		alert   tls.AlertError
		record  tls.RecordHeaderError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &dns):
		return Name
	case errors.As(err, &cert), errors.As(err, &alert), errors.As(err, &record), errors.As(err, &unknown):
		return TLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Other
}

// IsFailure tells whether an error says that the store can't be used: any does but those of one key, which are answers
// like others, and [context.Canceled]: who called it off did so for reasons of his own.
func IsFailure(err error) bool {
	return err != nil && !errors.Is(err, context.Canceled) && !aboutKeys[code(err)]
}
