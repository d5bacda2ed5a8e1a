package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/pkg/policy"
)

// What is wrong with a URL of redis is told without a byte of it: wherever a
// slip is, what is before or behind it may be the password.

// redisURLs reads one URL or a list of them.
func redisURLs(to *[]URL) into {
	return func(d *decoder, c cursor) {
		if c.node.Kind == yaml.SequenceNode {
			atMost(to, MaxRedisNodes, redisURL)(d, c)
			if len(*to) == 0 && !d.unreadable(c.path) {
				d.fail(c, "names no server", "write one such as redis://127.0.0.1:6379")
			}
			return
		}
		*to = make([]URL, 1)
		redisURL(&(*to)[0])(d, c)
	}
}

func redisURL(to *URL) into {
	return scalar(to, "a URL", func(n *yaml.Node) (URL, *complaint) {
		u, err := url.Parse(n.Value)
		if err != nil || len(n.Value) > policy.MaxText || n.ShortTag() != "!!str" {
			return "", &complaint{"want a redis, rediss or unix URL",
				"write it such as redis://127.0.0.1:6379; in a password escape what is not a letter or digit: %40 for @, %2F for /"}
		}
		switch u.Scheme {
		case "redis", "rediss":
			return URL(n.Value), checkServerURL(u)
		case "unix":
			return URL(n.Value), checkSocketURL(u)
		}
		return "", &complaint{"has none of the schemes redis, rediss and unix", "write it such as redis://127.0.0.1:6379, rediss://redis.example.org:6380 or unix:///run/redis/redis.sock"}
	})
}

func checkServerURL(u *url.URL) *complaint {
	switch database := strings.TrimPrefix(u.Path, "/"); {
	case u.Opaque != "" || !validURLHost(u):
		return &complaint{"has no host and port that can be", "write them such as redis://127.0.0.1:6379, redis://[::1]:6379 or redis://redis.example.org"}
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return &complaint{"has a query or fragment", "cut it off: what it would set has fields here; in a password write %3F for ? and %23 for #"}
	case database != "":
		return checkDatabase(database)
	}
	return nil
}

func checkSocketURL(u *url.URL) *complaint {
	const longest = 107 // bytes, of a socket's path
	if u.Opaque != "" || u.Host != "" || !path.IsAbs(u.Path) || path.Clean(u.Path) != u.Path || u.Path == "/" || len(u.Path) > longest {
		return &complaint{"has no path of a socket", "write an absolute path of up to 107 bytes behind unix://, such as unix:///run/redis/redis.sock"}
	}
	database, found := strings.CutPrefix(u.RawQuery, "db=")
	switch {
	case u.Fragment != "" || u.ForceQuery || u.RawQuery != "" && !found:
		return &complaint{"has a query or fragment", "cut it off, or write ?db=1 for a database"}
	case found:
		return checkDatabase(database)
	}
	return nil
}

func checkDatabase(text string) *complaint {
	if n, err := strconv.ParseUint(text, 10, 32); err != nil || n > MaxRedisDatabase || strconv.FormatUint(n, 10) != text {
		return &complaint{"has a path that is not the number of a database", "end it behind the port, or with a number such as /1"}
	}
	return nil
}

// webhook reads a URL to post to. Its path is often the password.
func webhook(to *URL) into {
	return scalar(to, "a URL", func(n *yaml.Node) (URL, *complaint) {
		u, err := url.Parse(n.Value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || len(n.Value) > policy.MaxText || !validURLHost(u) || u.Fragment != "" || u.User != nil {
			return "", &complaint{"want an http or https URL, without user and fragment", "write it such as https://alerts.example.org/weir"}
		}
		return URL(n.Value), nil
	})
}

// hostPort reads an address to connect to.
func hostPort(to *string) into {
	return scalar(to, "an address", func(n *yaml.Node) (string, *complaint) {
		if !validAddress(n.Value) || strings.HasPrefix(n.Value, ":") || strings.HasSuffix(n.Value, ":0") {
			return "", &complaint{"want an address as HOST:PORT", "write it such as 10.0.0.1:26379 or [::1]:26379"}
		}
		return n.Value, nil
	})
}

func validIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// checkPlace wants one way to find the servers.
func (r *Redis) checkPlace(d *decoder, c cursor) {
	urls, sentinel, cluster := join(c.path, "url"), join(c.path, "sentinel"), join(c.path, "cluster")
	switch {
	case d.unreadable(c.path):
	case d.has(urls) && d.has(sentinel):
		d.failAt(d.position(sentinel), sentinel, "sentinels find the server that url names already", "keep one of the two")
	case !d.has(urls) && !d.has(sentinel):
		d.fail(c, "says nothing of where Redis is", `add "url: redis://127.0.0.1:6379", or sentinel`)
	case r.Cluster && d.has(sentinel):
		d.failAt(d.position(cluster), cluster, "a cluster has no sentinels: its nodes watch one another", "remove cluster, or name its nodes in url")
	case len(r.URL) > 1 && !r.Cluster && !d.unreadable(cluster):
		d.failAt(d.position(urls), urls, fmt.Sprintf("names %d servers, which would not know of one another", len(r.URL)),
			`set "cluster: true" if they are a Redis cluster, or keep one`)
	}
}

// checkURLs holds the URLs of a cluster against one another.
func (r *Redis) checkURLs(d *decoder, c cursor) {
	if !r.Cluster {
		return
	}
	list := join(c.path, "url")
	texts := make([]string, len(r.URL))
	var first *url.URL
	for i := range r.URL {
		at := fmt.Sprintf("%s[%d]", list, i)
		if !d.has(at) {
			at = list
		}
		u, err := url.Parse(string(r.URL[i]))
		if err != nil || r.URL[i] == "" || d.unreadable(at) {
			continue
		}
		if texts[i] = u.Host; first == nil {
			first = u
		}
		switch {
		case u.Scheme == "unix":
			d.failAt(d.position(at), at, "a cluster's nodes are elsewhere, and no socket leads there", "write a redis or rediss URL")
		case strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != "0":
			d.failAt(d.position(at), at, "a cluster has no database but 0", "end it behind the port")
		case u.Scheme != first.Scheme:
			d.failAt(d.position(at), at, "has another scheme than the first", "write redis or rediss for all")
		case u.User.String() != first.User.String():
			d.failAt(d.position(at), at, "has another user or password than the first", "write the same in each, or username and password_file instead")
		}
	}
	d.checkTwice(list, texts)
}

// checkLogin wants user and password from one place each.
func (r *Redis) checkLogin(d *decoder, c cursor) {
	username, file := join(c.path, "username"), join(c.path, "password_file")
	var name string
	var password bool
	for _, text := range r.URL {
		if u, err := url.Parse(string(text)); err == nil && u.User != nil {
			name = u.User.Username()
			_, password = u.User.Password()
		}
	}
	switch {
	case name != "" && r.Username != "":
		d.failAt(d.position(username), username, "the URL has a user already", "keep one of the two")
	case password && r.PasswordFile != "":
		d.failAt(d.position(file), file, "the URL has a password already", "keep one of the two")
	case password:
	case name != "" && r.PasswordFile == "" && !d.unreadable(file):
		urls := join(c.path, "url")
		d.failAt(d.position(urls), urls, "has a user without a password, without which Redis logs nobody in", "write redis://USER:PASSWORD@HOST, or add password_file")
	default:
		d.checkPassword(c.path, r.Username, r.PasswordFile)
	}
}

// checkTLS refuses certificates that nobody would look at.
func (r *Redis) checkTLS(d *decoder, c cursor) {
	path, urls := join(c.path, "tls"), join(c.path, "url")
	if r.TLS == nil || !d.has(urls) || d.unreadable(urls) {
		return
	}
	for _, text := range r.URL {
		if u, err := url.Parse(string(text)); err == nil && u.Scheme != "" && u.Scheme != "rediss" {
			d.failAt(d.position(path), path, fmt.Sprintf("a URL of scheme %s is spoken to without TLS", u.Scheme), "write rediss in url, or remove tls")
			return
		}
	}
}
