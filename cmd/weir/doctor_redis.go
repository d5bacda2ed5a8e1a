package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/pkg/config"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// redisLook bounds all that the doctor asks of Redis.
const redisLook = 15 * time.Second

// askedRedis is the Redis that the doctor looks at, as a client sees it.
type askedRedis struct {
	config *config.Redis
	redisServer
	// tag makes a key that the server has of a cluster; empty: it has all.
	tag   string
	info  map[string]string    // of INFO
	state *tls.ConnectionState // of the last connection; nil: without TLS
}

// redisServer is what the doctor needs of a client.
type redisServer interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

// readRedis finds out which Redis is meant: that of the file, that of the URL, or none.
func readRedis(file, address string) (*config.Redis, error) {
	switch {
	case file != "" && address != "":
		return nil, usagef("want --config or --redis, not both")
	case file != "":
		c, err := config.Load(file)
		if err != nil {
			return nil, err
		}
		return c.Redis, nil
	case address == "":
		return nil, nil
	}
	c, err := config.Parse("--redis", fmt.Appendf(nil, "redis: {url: %q}", address))
	if err != nil {
		return nil, usageError{err}
	}
	return c.Redis, nil
}

// redisProbe is one question to a server, of which there may be several.
type redisProbe struct {
	check string
	look  func(ctx context.Context, r *askedRedis) finding
}

func redisProbes() []redisProbe {
	return []redisProbe{
		{"redis_tls", redisTLS},
		{"redis_version", redisVersion},
		{"redis_role", redisRole},
		{"redis_cluster", redisCluster},
		{"redis_memory", redisMemory},
		{"redis_scripting", redisScripting},
		{"redis_commands", redisCommands},
		{"redis_pubsub", redisPubSub},
		{"redis_clock", redisClock},
		{"redis_latency", redisLatency},
	}
}

// examineRedis looks at all servers that keys are written to.
func examineRedis(ctx context.Context, r *config.Redis) []finding {
	ctx, cancel := context.WithTimeout(ctx, redisLook)
	defer cancel()
	asked := askedRedis{config: r}
	var seen tls.ConnectionState
	client, err := clientOf(r, func(s tls.ConnectionState) { seen = s })
	if err != nil {
		f := failure("mend redis in the file", "%v", err)
		f.Check = "redis"
		return []finding{f}
	}
	defer client.Close()
	var all []finding
	look := func(name, tag string, server redisServer) {
		one := asked
		one.tag, one.redisServer = tag, server
		f := one.reach(ctx)
		f.Check, f.Server = "redis", name
		all = append(all, f)
		if f.Grade == gradeFail {
			return
		}
		if seen.Version != 0 {
			one.state = &seen
		}
		for _, probe := range redisProbes() {
			f := probe.look(ctx, &one)
			f.Check, f.Server = probe.check, name
			all = append(all, f)
		}
	}
	c, ok := client.(*redis.ClusterClient)
	if !ok {
		look("", "", client)
		return all
	}
	masters, err := mastersOf(ctx, c, asked.key())
	if err != nil {
		f := unreachable(r, err)
		f.Check = "redis"
		return append(all, f)
	}
	for _, m := range masters {
		look(m.client.Options().Addr, m.tag, m.client)
	}
	return all
}

// clientOf makes a client as weir run has it, but one that waits as long as a connect may take: how long an answer
// takes is for the doctor to find out. seen is told of each TLS connection.
func clientOf(r *config.Redis, seen func(tls.ConnectionState)) (redis.UniversalClient, error) {
	o, err := redisOptions(r)
	if err != nil {
		return nil, err
	}
	o.CommandTimeout, o.OnTLS = r.ConnectionTimeout, seen
	return ratesync.NewClient(o)
}

// master is a server of a cluster, and what makes a key one of its keys.
type master struct {
	client *redis.Client
	tag    string
}

// mastersOf finds the masters, each by trying keys until one is its own: a script has to have such a key.
func mastersOf(ctx context.Context, c *redis.ClusterClient, key string) (all []master, err error) {
	if err := c.Do(ctx, "CLUSTER", "SLOTS").Err(); err != nil {
		return nil, err
	}
	const tries = 10_000 // far more than any cluster has masters
	known := map[string]bool{}
	count := 0
	var mu sync.Mutex
	err = c.ForEachMaster(ctx, func(context.Context, *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		count++
		return nil
	})
	for i := 0; err == nil && i < tries && len(all) < count; i++ {
		tag := fmt.Sprintf(":%d", i)
		var m *redis.Client
		if m, err = c.MasterForKey(ctx, key+tag); err == nil && !known[m.Options().Addr] {
			known[m.Options().Addr] = true
			all = append(all, master{m, tag})
		}
	}
	return all, err
}

// reach asks for a sign of life, by who weir is to be.
func (r *askedRedis) reach(ctx context.Context) finding {
	if err := r.Do(ctx, "PING").Err(); err != nil {
		return unreachable(r.config, err)
	}
	r.info = map[string]string{}
	if text, err := r.Do(ctx, "INFO").Text(); err == nil {
		for line := range strings.Lines(text) {
			if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
				r.info[name] = value
			}
		}
	}
	who := "a user who may not ask ACL WHOAMI"
	if r.config.Username != "" {
		who = "user " + r.config.Username
	}
	if name, err := r.Do(ctx, "ACL", "WHOAMI").Text(); err == nil {
		who = "user " + name
	}
	return good("answers, to %s", who)
}

// unreachable is why there is no answer, with the mend of what it most likely is.
func unreachable(r *config.Redis, err error) finding {
	text := err.Error()
	for _, c := range []struct{ sign, mend string }{
		{"NOAUTH", "it wants a password: set redis.username and redis.password_file"},
		{"WRONGPASS", "redis.username or the password is wrong"},
		{"invalid password", "the password is wrong"},
		{"NOPERM", "allow the user what docs/CONFIG.md lists: ACL SETUSER"},
		{"DENIED", "it is in protected mode: give it a password, and a bind address that is meant"},
		{"certificate signed by unknown authority", "name the file of its CA in redis.tls.ca"},
		{"certificate is not valid for any names", "name what is in its certificate in redis.tls.server_name, or its address in redis.url"},
		{"certificate is valid for", "name what is in its certificate in redis.tls.server_name"},
		{"certificate required", "it wants a certificate of this node: set redis.tls.cert and redis.tls.key"},
		{"first record does not look like a TLS handshake", "it does not speak TLS there: write redis:// instead of rediss://, or its other port"},
		{"unexpected HTTP", "that is no Redis"},
		{"HTTP/1.", "that is no Redis, but a server of HTTP: mend the address"},
		{"cluster support disabled", `it is no cluster: remove "cluster: true"`},
		{"connection refused", "start it, or mend the address"},
		{"no such file", "start it, or mend the path of its socket"},
		{"connect: permission denied", "let this user use the socket: unixsocketperm and unixsocket in redis.conf, and the directories above"},
		{"no such host", "mend the name of the host"},
		{"LOADING", "wait until it has loaded its data"},
		{"EOF", hangsUp(r)},
		{"connection reset", hangsUp(r)},
		{"broken pipe", hangsUp(r)},
	} {
		if strings.Contains(text, c.sign) {
			return failure(c.mend, "no answer: %s", redact(r, text))
		}
	}
	if len(r.URL) > 0 && strings.HasPrefix(strings.ToLower(string(r.URL[0])), "unix:") {
		return failure("see whether what has this socket is Redis, and stuck or stopped", "no answer: %s", redact(r, text))
	}
	return failure("see whether the address is right, and a firewall in the way", "no answer: %s", redact(r, text))
}

// hangsUp is the mend of a server that ends connections without a word.
func hangsUp(r *config.Redis) string {
	const own = "it hangs up: if it wants a certificate of this node, set redis.tls.cert and redis.tls.key"
	encrypted := r.TLS != nil || len(r.URL) > 0 && strings.HasPrefix(strings.ToLower(string(r.URL[0])), "rediss:")
	switch {
	case !encrypted:
		return "it hangs up: if it speaks TLS there, write rediss://"
	case r.TLS == nil || r.TLS.Cert == "":
		return own
	}
	return "it hangs up: see its log"
}

// redact takes addresses' logins out of an error's text, though go-redis is not known to write them.
func redact(r *config.Redis, text string) string {
	for _, address := range r.URL {
		if u, err := url.Parse(string(address)); err == nil && u.User != nil {
			if password, has := u.User.Password(); has && password != "" {
				text = strings.ReplaceAll(text, password, "...")
			}
		}
	}
	return text
}

func redisTLS(_ context.Context, r *askedRedis) finding {
	if r.state != nil {
		return good("%s, certificate until %s", tls.VersionName(r.state.Version), r.state.PeerCertificates[0].NotAfter.Format(time.DateOnly))
	}
	for _, text := range r.config.URL {
		u, err := url.Parse(string(text))
		if err != nil || u.Scheme == "unix" || u.Hostname() == "localhost" {
			continue
		}
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
			return warning("use rediss:// if others can listen on the way", "no TLS: who can listen on the way has the password")
		}
	}
	if r.config.Sentinel != nil {
		return warning("set redis.tls if others can listen on the way", "no TLS: who can listen on the way has the password")
	}
	return good("no TLS, on this machine")
}
