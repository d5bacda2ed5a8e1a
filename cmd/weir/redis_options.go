package main

import (
	"github.com/weir-limiter/weir/pkg/config"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// redisOptions is how to reach the Redis of a configuration. It reads the files of passwords, each time anew.
func redisOptions(r *config.Redis) (o ratesync.Options, err error) {
	o = ratesync.Options{
		Cluster: r.Cluster, User: r.Username, PoolSize: int(r.PoolSize), ConnectionTimeout: r.ConnectionTimeout,
		CommandTimeout: r.CommandTimeout, KeyPrefix: r.KeyPrefix, DefaultTTL: r.DefaultTTL,
	}
	for _, u := range r.URL {
		o.URLs = append(o.URLs, string(u))
	}
	if t := r.TLS; t != nil {
		o.TLS = ratesync.TLS{Enabled: true, CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName}
	}
	if o.Password, err = readPassword("redis.password_file", r.PasswordFile); err != nil {
		return o, err
	}
	if s := r.Sentinel; s != nil {
		o.Sentinel = &ratesync.Sentinel{Master: s.Master, Addresses: s.Addresses, User: s.Username}
		o.Sentinel.Password, err = readPassword("redis.sentinel.password_file", s.PasswordFile)
	}
	return o, err
}

func readPassword(field, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	return config.ReadSecret(field, file)
}
