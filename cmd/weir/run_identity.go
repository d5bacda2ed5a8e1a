package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/identity"
)

// identityOptions says whom a configuration believes what.
func identityOptions(c config.Server, v *identity.Verifier) identity.Options {
	return identity.Options{
		TrustedProxies: c.TrustedProxies, ClientHeader: c.Identity.ClientHeader,
		UserHeader: c.Identity.UserHeader, RoleHeader: c.Identity.RoleHeader,
		APIKeyHeader: c.Identity.APIKeyHeader, RequestIDHeader: c.Identity.RequestIDHeader,
		MetadataHeaders: c.Identity.MetadataHeaders, JWT: v,
	}
}

// verifier verifies the tokens that a configuration wants believed. The zero value believes none.
type verifier struct {
	*identity.Verifier
	from *config.JWT // what it was made of
}

// next is the verifier for another configuration: the same one, with the keys that it has, if nothing about
// it has changed.
func (v verifier) next(c config.Server, log *slog.Logger) (verifier, error) {
	switch {
	case c.JWT == nil:
		return verifier{}, nil
	case reflect.DeepEqual(c.JWT, v.from):
		return v, nil
	}
	j := c.JWT
	made, err := identity.NewVerifier(identity.VerifierOptions{
		JWKSURL: j.JWKSURL, JWKSFile: j.JWKSFile, KeyFile: j.KeyFile, SecretFile: j.SecretFile, Algorithms: j.Algorithms,
		Issuer: j.Issuer, Audience: j.Audience, UserClaim: j.UserClaim, RoleClaim: j.RoleClaim, Header: j.Header,
		Leeway: j.Leeway, Log: log,
	})
	if err != nil {
		return verifier{}, fmt.Errorf("server.jwt: %w", err)
	}
	if v.Verifier != nil {
		made.Inherit(v.Verifier) // or nobody would be known until the issuer has answered
	}
	return verifier{made, j}, nil
}

// warning tells that keys can't be had; empty if they can. Why is for the log: who asks may be anybody.
func (v verifier) warning() string {
	if v.Verifier == nil {
		return ""
	}
	switch n, err := v.Keys(); {
	case n == 0:
		return "server.jwt: there are no keys yet, and no token is believed (the log says why)"
	case err != nil:
		return fmt.Sprintf("server.jwt: the keys can't be read anew, and %s from before stay in force (the log says why)", plural(n, "key", "keys"))
	}
	return ""
}

// keyFile is the file that the keys of a configuration are in; empty if there is none.
func keyFile(j *config.JWT) string {
	if j == nil {
		return ""
	}
	return cmp.Or(j.JWKSFile, j.KeyFile, j.SecretFile)
}

// tokenKeys keeps the keys of the verifier in force up to date.
type tokenKeys struct{ inForce chan *identity.Verifier }

func newTokenKeys() tokenKeys { return tokenKeys{make(chan *identity.Verifier, 1)} }

// use puts another verifier in the place of the one before; nil: there is none. Only one goroutine may call it.
func (k tokenKeys) use(v *identity.Verifier) {
	select {
	case <-k.inForce: // nobody has taken it over yet
	default:
	}
	k.inForce <- v
}

// Run runs the verifier in force, until another takes its place or ctx ends. It returns nil.
func (k tokenKeys) Run(ctx context.Context) error {
	var running *identity.Verifier
	for {
		of, stop := context.WithCancel(ctx)
		var group sync.WaitGroup
		if running != nil {
			v := running
			group.Go(func() { _ = v.Run(of) }) // which returns nil
		}
		next := k.next(ctx, running)
		stop()
		group.Wait()
		if ctx.Err() != nil {
			return nil
		}
		running = next
	}
}

// next waits for another verifier than the one that runs, or for the end of ctx.
func (k tokenKeys) next(ctx context.Context, running *identity.Verifier) *identity.Verifier {
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-k.inForce:
			if v != running {
				return v
			}
		}
	}
}
