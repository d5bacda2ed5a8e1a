package main

import (
	"fmt"
	"reflect"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/server"
)

// load puts a file's content in force. After an error everything is as it was.
func (d *daemon) load(data []byte) error {
	file, err := config.Parse(d.file, data)
	if err != nil {
		return err
	}
	next := d.overCluster(file)
	d.further.Store(&next.Server.RLSConfig) // whatever becomes of it: if they are bad, their mend is worth a reload
	if err := d.checkTables(next); err != nil {
		return err
	}
	if err := d.checkRedis(next); err != nil {
		return err
	}
	token, err := readToken(next)
	if err != nil {
		return err
	}
	if err := d.change(next); err != nil {
		return err
	}
	d.token.Store(&token)
	d.reloadedCluster(file)
	if d.packets == nil {
		d.log.Info("reloaded", "config", d.file, "policies", len(d.config.Policies))
		return nil
	}
	r := d.packets.reconciler
	if err := r.Prune(); err != nil {
		d.log.Error("reloaded in part: can't detach what the file does not list any more", "error", err)
		return nil
	}
	d.log.Info("reloaded", "config", d.file, "interfaces", len(r.want.interfaces), "policies", len(d.config.Policies))
	return nil
}

// checkTables holds that the tables keep their sizes, as a table can't change its own.
func (d *daemon) checkTables(next *config.Config) error {
	if d.packets != nil && next.Table.Entries != d.config.Table.Entries {
		return fmt.Errorf("%s: table.entries has changed from %d to %d, and a table can't change its size (stop weir run, run: weir detach --all, start it again; buckets start full then)",
			d.file, d.config.Table.Entries, next.Table.Entries)
	}
	if next.Table.L7Entries != d.config.Table.L7Entries {
		return fmt.Errorf("%s: table.l7_entries has changed from %d to %d, and a table can't change its size (restart weir run; buckets start full then)",
			d.file, d.config.Table.L7Entries, next.Table.L7Entries)
	}
	return nil
}

// checkRedis holds that a store stays where it is, as what nodes share is in it.
func (d *daemon) checkRedis(next *config.Config) error {
	switch was, is := d.config.Redis, next.Redis; {
	case (was == nil) != (is == nil):
		return fmt.Errorf("%s: redis was added or removed, which needs a restart of weir run", d.file)
	case !reflect.DeepEqual(was, is) || !reflect.DeepEqual(d.config.Fallback, next.Fallback):
		d.log.Warn("redis or fallback has changed, which needs a restart of weir run; what was in use still is")
		next.Redis, next.Fallback = was, d.config.Fallback
	}
	return nil
}

// change puts another configuration in force: in the kernel, on all interfaces or on none, and at layer 7;
// or nowhere.
func (d *daemon) change(next *config.Config) error {
	prepared, err := d.prepare(next)
	if err != nil {
		return err
	}
	return d.put(next, prepared)
}

// prepare does of a change what can fail without the kernel, and changes nothing.
func (d *daemon) prepare(next *config.Config) (*preparedRequests, error) {
	if need := kernelNeed(next); d.packets == nil && need != "" {
		return nil, fmt.Errorf("%w, and %s (write it into the file, and restart weir run)", errRequestsOnly, need)
	}
	return d.requests.prepare(next)
}

// put puts in force what was prepared. The kernel comes before what can't fail any more.
func (d *daemon) put(next *config.Config, prepared *preparedRequests) error {
	if err := d.requests.begin(prepared); err != nil {
		return err
	}
	if d.packets != nil {
		if err := d.packets.change(next); err != nil {
			d.requests.undo()
			return err
		}
	}
	d.requests.commit(prepared)
	d.keepAddresses(next)
	d.config = next
	return nil
}

// keepAddresses leaves the listeners where they are: they were opened with privileges that are given up.
func (d *daemon) keepAddresses(next *config.Config) {
	was, is := &d.config.Server, &next.Server
	for _, a := range []struct {
		field   string
		was, is *string
	}{
		{"server.http", &was.HTTP, &is.HTTP},
		{"server.grpc", &was.GRPC, &is.GRPC},
		{"server.proxy.listen", &was.Proxy.Listen, &is.Proxy.Listen},
		{"server.proxy.upstream", &was.Proxy.Upstream, &is.Proxy.Upstream},
	} {
		if *a.was != *a.is {
			d.log.Warn(a.field+" has changed, which needs a restart of weir run", "in_use", *a.was, "file", *a.is)
			*a.is = *a.was
		}
	}
}

// readToken reads the admin token that a configuration names, if it does.
func readToken(c *config.Config) (server.Token, error) {
	if c.Server.AdminTokenFile == "" {
		return server.Token{}, nil
	}
	return server.ReadToken(c.Server.AdminTokenFile)
}
