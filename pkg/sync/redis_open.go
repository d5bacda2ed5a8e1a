package ratesync

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Defaults of [Options].
const (
	DefaultPoolSize          = 10
	DefaultConnectionTimeout = 5 * time.Second
	DefaultCommandTimeout    = 10 * time.Millisecond
	DefaultKeyPrefix         = "weir"
	DefaultTTL               = time.Hour
)

const (
	maxPrefix = 64
	maxPool   = 10_000
)

// Options say where Redis is.
type Options struct {
	// URLs are redis://[user[:password]@]host[:port][/db], rediss:// or unix://[user[:password]@]/path[?db=n]: one, or with
	// Cluster those of some of its servers, with the same user; none with Sentinel.
	URLs     []string
	Cluster  bool
	Sentinel *Sentinel
	// User and Password go before those of the URL.
	User, Password string
	TLS            TLS
	// OnTLS hears of each connection that was made by TLS; nil: nobody does.
	OnTLS func(tls.ConnectionState)

	PoolSize          int           // connections, to each server; 0: DefaultPoolSize
	ConnectionTimeout time.Duration // to make a connection, which is done in the background; 0: DefaultConnectionTimeout
	CommandTimeout    time.Duration // of one call, with all that it waits for; 0: DefaultCommandTimeout
	KeyPrefix         string        // before ":" in all keys; "": DefaultKeyPrefix
	// DefaultTTL is how long keys other than buckets are kept, if nobody renews them; buckets know how long they need.
	DefaultTTL time.Duration
}

// Sentinel names a master that sentinels watch.
type Sentinel struct {
	Master    string
	Addresses []string // host:port of sentinels
	DB        int
	// User and Password are the sentinels' own.
	User, Password string
}

// TLS is for rediss URLs, and with Enabled for Sentinel. The server's certificate is always verified.
type TLS struct {
	Enabled    bool
	CA         string // file; "": the system's
	Cert, Key  string // files, both or none
	ServerName string // "": the host that is connected to
}

// Open makes a [Redis]. It does not wait for a connection: Redis may be away.
func Open(o Options) (*Redis, error) {
	o.fill()
	client, secrets, err := newClient(&o)
	if err != nil {
		return nil, err
	}
	return &Redis{client: client, cluster: o.Cluster, prefix: o.KeyPrefix, timeout: o.CommandTimeout, secrets: secrets}, nil
}

// NewClient makes a client as that of [Open], for what has a CommandTimeout of its own.
func NewClient(o Options) (redis.UniversalClient, error) {
	o.fill()
	client, _, err := newClient(&o)
	return client, err
}

func (o *Options) fill() {
	if o.PoolSize == 0 {
		o.PoolSize = DefaultPoolSize
	}
	if o.ConnectionTimeout == 0 {
		o.ConnectionTimeout = DefaultConnectionTimeout
	}
	if o.CommandTimeout == 0 {
		o.CommandTimeout = DefaultCommandTimeout
	}
	if o.KeyPrefix == "" {
		o.KeyPrefix = DefaultKeyPrefix
	}
	if o.DefaultTTL == 0 {
		o.DefaultTTL = DefaultTTL
	}
}

func (o *Options) check() error {
	switch {
	case o.PoolSize < 0 || o.PoolSize > maxPool:
		return fmt.Errorf("redis: a pool of %d connections (set pool_size to 1 to %d)", o.PoolSize, maxPool)
	case o.ConnectionTimeout < 0 || o.CommandTimeout < 0 || o.DefaultTTL < 0:
		return errors.New("redis: a time is negative (set connection_timeout, command_timeout and default_ttl above 0)")
	case len(o.KeyPrefix) > maxPrefix || strings.ContainsAny(o.KeyPrefix, "{} \r\n\x00"):
		return fmt.Errorf("redis: a key prefix may have no brace and no space, and %d bytes (set key_prefix)", maxPrefix)
	case (o.TLS.Cert == "") != (o.TLS.Key == ""):
		return errors.New("redis: a client certificate needs both a certificate and its key (set tls.cert and tls.key)")
	case o.Sentinel != nil && (o.Sentinel.Master == "" || len(o.Sentinel.Addresses) == 0):
		return errors.New("redis: sentinel needs the name of a master and addresses of sentinels (set sentinel.master and sentinel.addresses)")
	case o.Sentinel != nil && (o.Cluster || len(o.URLs) != 0):
		return errors.New("redis: a URL, cluster and sentinel are different ways to find a master (set one of url and sentinel)")
	case o.Sentinel == nil && len(o.URLs) == 0:
		return errors.New("redis: no server is named (set url)")
	case len(o.URLs) > 1 && !o.Cluster:
		return errors.New("redis: several URLs are those of a cluster (set cluster: true, or name one)")
	}
	return nil
}

// quiet keeps go-redis from writing to standard error: a library does not, and its callers count failures.
var quiet = sync.OnceFunc(func() { redis.SetLogger(discard{}) })

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

func newClient(o *Options) (redis.UniversalClient, []string, error) {
	quiet()
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	u, secrets, err := o.universal()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case o.Sentinel != nil:
		return redis.NewFailoverClient(u.Failover()), secrets, nil
	case o.Cluster:
		return redis.NewClusterClient(u.Cluster()), secrets, nil
	}
	simple := u.Simple()
	if strings.HasPrefix(o.URLs[0], "unix:") {
		simple.Network = "unix"
	}
	return redis.NewClient(simple), secrets, nil
}

// universal are the options of go-redis. Nothing is tried again in there: who decides has no time, and who has time backs
// off. Connections are made in the background, so that a decision waits for one no longer than for an answer.
func (o *Options) universal() (*redis.UniversalOptions, []string, error) {
	u := &redis.UniversalOptions{
		MaxRetries: -1, MaxRedirects: 2, MinRetryBackoff: -1, MaxRetryBackoff: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true, Protocol: 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PoolSize:                 o.PoolSize, DialTimeout: o.ConnectionTimeout,
		ReadTimeout: o.CommandTimeout, WriteTimeout: o.CommandTimeout, PoolTimeout: o.CommandTimeout,
	}
	d := new(dialer)
	u.Dialer = d.dial
	var secrets []string
	secure := o.TLS.Enabled
	for i, text := range o.URLs {
		// The error would have the URL, which has the password.
		one, err := redis.ParseURL(text)
		if err == nil && !strings.HasPrefix(text, "unix:") {
			_, _, err = net.SplitHostPort(one.Addr)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("redis: url %d of %d can't be read (use redis://[user[:password]@]host[:port][/db], rediss:// or unix://[user[:password]@]/path)", i+1, len(o.URLs))
		}
		if i > 0 && (one.TLSConfig != nil) != secure {
			return nil, nil, errors.New("redis: some URLs of a cluster are rediss and some are not (use one kind)")
		}
		secure = secure || one.TLSConfig != nil
		u.Addrs = append(u.Addrs, one.Addr)
		u.Username, u.Password, u.DB = one.Username, one.Password, one.DB
		if one.Password != "" {
			secrets = append(secrets, one.Password)
		}
	}
	if o.Cluster && u.DB != 0 {
		return nil, nil, errors.New("redis: a cluster has no databases (remove the number at the end of the URL)")
	}
	o.logins(u, &secrets)
	if secure {
		config, err := o.TLS.config()
		if err != nil {
			return nil, nil, err
		}
		if o.OnTLS != nil {
			config.VerifyConnection = func(s tls.ConnectionState) error { o.OnTLS(s); return nil } // besides the usual checks
		}
		d.secure = config
	} else if o.TLS != (TLS{}) {
		return nil, nil, errors.New("redis: TLS is set, and the URL is not rediss (use rediss://)")
	}
	return u, secrets, nil
}

// logins adds users and passwords that are not in a URL.
func (o *Options) logins(u *redis.UniversalOptions, secrets *[]string) {
	if s := o.Sentinel; s != nil {
		u.Addrs, u.MasterName, u.DB = s.Addresses, s.Master, s.DB
		u.SentinelUsername, u.SentinelPassword = s.User, s.Password
		if s.Password != "" {
			*secrets = append(*secrets, s.Password)
		}
	}
	if o.User != "" {
		u.Username = o.User
	}
	if o.Password != "" {
		u.Password = o.Password
		*secrets = append(*secrets, o.Password)
	}
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("redis: reading the CA's certificates: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("redis: %s has no certificate (set tls.ca to a file of PEM certificates)", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("redis: reading the client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
