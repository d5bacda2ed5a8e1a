package redistest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// masters is the least that a Redis Cluster has.
const masters = 3

// slots is how many a Redis Cluster divides keys into.
const slots = 16384

// ClusterOptions say what cluster to start.
type ClusterOptions struct {
	Replicas bool      // one for each master
	Servers  []Options // of all servers, masters first, or none for the default
}

// Cluster is a Redis Cluster of three masters.
type Cluster struct {
	Masters, Replicas []*Server
	URLs              []string
}

// LaunchCluster starts a cluster and waits until all of its servers know it.
func LaunchCluster(o ClusterOptions) (*Cluster, error) {
	n := masters
	if o.Replicas {
		n *= 2
	}
	if len(o.Servers) == 0 {
		o.Servers = make([]Options, n)
	}
	if len(o.Servers) != n {
		return nil, fmt.Errorf("a cluster of %d servers (give options of %d, or none)", len(o.Servers), n)
	}
	c := new(Cluster)
	for i, so := range o.Servers {
		so.Config = append([]string{
			"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 1000", "cluster-replica-validity-factor 0",
			"cluster-require-full-coverage no", "repl-diskless-sync-delay 0",
		}, so.Config...)
		s, err := Launch(so)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		if i < masters {
			c.Masters = append(c.Masters, s)
			c.URLs = append(c.URLs, s.URL)
		} else {
			c.Replicas = append(c.Replicas, s)
		}
	}
	if err := c.join(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) all() []*Server { return append(append([]*Server{}, c.Masters...), c.Replicas...) }

func (c *Cluster) join() error {
	for i, s := range c.Masters {
		from, to := i*slots/masters, (i+1)*slots/masters-1
		if _, err := s.CLI("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(from), strconv.Itoa(to)); err != nil {
			return err
		}
	}
	for i, s := range c.all() {
		if _, err := s.CLI("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		if _, err := c.Masters[0].CLI("CLUSTER", "MEET", s.o.Host, strconv.Itoa(s.o.Port)); err != nil {
			return err
		}
	}
	if err := c.settled(); err != nil {
		return err
	}
	for i, s := range c.Replicas {
		id, err := c.Masters[i].CLI("CLUSTER", "MYID")
		if err != nil {
			return err
		}
		if _, err := s.CLI("CLUSTER", "REPLICATE", id); err != nil {
			return err
		}
	}
	for _, s := range c.Replicas {
		if err := s.linked(); err != nil {
			return err
		}
	}
	return c.settled()
}

// settled waits until each server has heard of all, and of all slots.
func (c *Cluster) settled() error {
	all := c.all()
	for _, s := range all {
		err := until(func() error {
			info, err := s.CLI("CLUSTER", "INFO")
			if err != nil {
				return err
			}
			for _, want := range []string{"cluster_state:ok", fmt.Sprintf("cluster_slots_ok:%d", slots), fmt.Sprintf("cluster_known_nodes:%d", len(all))} {
				if !strings.Contains(info, want) {
					return fmt.Errorf("the cluster does not say %s: %s", want, info)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// linked waits until a replica has its master's data.
func (s *Server) linked() error {
	return until(func() error {
		info, err := s.CLI("INFO", "replication")
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("the replica has no master: %s", info)
		}
		return err
	})
}

// Close ends all servers.
func (c *Cluster) Close() error {
	var errs []error
	for _, s := range c.all() {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// SentinelOptions say what to start: options of a master, a replica, and three sentinels.
type SentinelOptions struct {
	Master, Replica Options
	Sentinels       [3]Options
	// DownAfter is for how long the master has to be silent: 500ms.
	DownAfter time.Duration
}

// MasterName is the name under which sentinels know their master.
const MasterName = "weir"

// Sentinel is a master with a replica, which sentinels make a master when that is gone.
type Sentinel struct {
	Master, Replica *Server
	Sentinels       []*Server
	Addresses       []string // of the sentinels
}

// LaunchSentinel starts a master, a replica and three sentinels, and waits until they know each other.
func LaunchSentinel(o SentinelOptions) (*Sentinel, error) {
	s := new(Sentinel)
	if err := s.launch(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Sentinel) launch(o SentinelOptions) (err error) {
	o.Master.Config = append(o.Master.Config, "repl-diskless-sync-delay 0")
	if s.Master, err = Launch(o.Master); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Master.Addr)
	if err != nil {
		return err
	}
	o.Replica.Config = append(o.Replica.Config, "replicaof "+host+" "+port)
	if s.Replica, err = Launch(o.Replica); err != nil {
		return err
	}
	if err := s.Replica.linked(); err != nil {
		return err
	}
	if o.DownAfter == 0 {
		o.DownAfter = 500 * time.Millisecond
	}
	for _, so := range o.Sentinels {
		so.sentinel = true
		so.Config = append(so.Config,
			"sentinel monitor "+MasterName+" "+host+" "+port+" 2",
			"sentinel down-after-milliseconds "+MasterName+" "+strconv.FormatInt(o.DownAfter.Milliseconds(), 10),
			"sentinel failover-timeout "+MasterName+" 2000")
		one, err := Launch(so)
		if err != nil {
			return err
		}
		s.Sentinels, s.Addresses = append(s.Sentinels, one), append(s.Addresses, one.Addr)
	}
	return s.settled()
}

// settled waits until each sentinel knows the replica and the other sentinels: until then they would not act.
func (s *Sentinel) settled() error {
	for _, one := range s.Sentinels {
		err := until(func() error {
			text, err := one.CLI("SENTINEL", "MASTER", MasterName)
			if err != nil {
				return err
			}
			f := strings.Split(text, "\n")
			for i := 0; i+1 < len(f); i += 2 {
				if f[i] == "num-slaves" && f[i+1] != "1" || f[i] == "num-other-sentinels" && f[i+1] != "2" {
					return fmt.Errorf("a sentinel says %s: %s", f[i], f[i+1])
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Close ends all servers.
func (s *Sentinel) Close() error {
	var errs []error
	for _, one := range append([]*Server{s.Master, s.Replica}, s.Sentinels...) {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}
