package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/weir-limiter/weir/pkg/config"
)

// openRedis makes a client of the servers that a configuration names, and connects to none yet. It retries nothing: who
// asks decides what a failure means. seen is told of each TLS connection; nil: nobody is.
func openRedis(r *config.Redis, seen func(tls.ConnectionState)) (redis.UniversalClient, error) {
	o := &redis.UniversalOptions{
		PoolSize: int(r.PoolSize), DialTimeout: r.ConnectionTimeout, ReadTimeout: r.ConnectionTimeout, WriteTimeout: r.ConnectionTimeout,
		MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true, IsClusterMode: r.Cluster,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	encrypted := r.TLS != nil
	for _, text := range r.URL {
		u, err := url.Parse(string(text))
		if err != nil {
			return nil, errors.New("redis.url: not a URL") // whose text may hold a password
		}
		one, err := redis.ParseURL(string(text))
		if err != nil {
			return nil, errors.New("redis.url: not a URL of Redis")
		}
		o.Addrs, o.Username, o.Password, o.DB = append(o.Addrs, one.Addr), one.Username, one.Password, one.DB
		encrypted = encrypted || u.Scheme == "rediss"
	}
	if err := login(o, r); err != nil {
		return nil, err
	}
	if encrypted {
		t, err := tlsConfig(r.TLS, seen)
		if err != nil {
			return nil, err
		}
		o.TLSConfig = t
	}
	return redis.NewUniversalClient(o), nil
}

// login reads who weir is to Redis, and to sentinels.
func login(o *redis.UniversalOptions, r *config.Redis) (err error) {
	if r.Username != "" {
		o.Username = r.Username
	}
	if r.PasswordFile != "" {
		if o.Password, err = config.ReadSecret("redis.password_file", r.PasswordFile); err != nil {
			return err
		}
	}
	if r.Sentinel == nil {
		return nil
	}
	o.Addrs, o.MasterName, o.SentinelUsername = r.Sentinel.Addresses, r.Sentinel.Master, r.Sentinel.Username
	if r.Sentinel.PasswordFile != "" {
		o.SentinelPassword, err = config.ReadSecret("redis.sentinel.password_file", r.Sentinel.PasswordFile)
	}
	return err
}

func tlsConfig(t *config.TLS, seen func(tls.ConnectionState)) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if seen != nil {
		c.VerifyConnection = func(s tls.ConnectionState) error { seen(s); return nil }
	}
	if t == nil {
		return c, nil
	}
	c.ServerName = t.ServerName
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("redis.tls.ca: no certificate as PEM in %s", t.CA)
		}
	}
	if t.Cert != "" {
		own, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.cert: %w", err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}
