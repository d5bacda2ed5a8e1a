package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// cost is what a server's answers took of the processors, its own share and that of Redis. Unlike a rate it has nothing of the
// client in it, which shares the cores with both.
type cost struct {
	server, redis time.Duration
	answers       float64
}

// each is the cost of one answer, in ns.
func (c *cost) each() float64 { return float64(c.server+c.redis) / c.answers }

// costing is a load that adds up what it costs the server and Redis.
func costing(ask load, redis *redisServer, costs map[*server]*cost) load {
	return func(ctx context.Context, s *server, d time.Duration) (float64, error) {
		if costs[s] == nil {
			costs[s] = &cost{}
		}
		c, start := costs[s], time.Now()
		server, store, err := processorTimes(s, &redis.server)
		if err != nil {
			return 0, err
		}
		rate, err := ask(ctx, s, d)
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		serverThen, storeThen, err := processorTimes(s, &redis.server)
		c.server += serverThen - server
		c.redis += storeThen - store
		c.answers += rate * took.Seconds()
		return rate, err
	}
}

func processorTimes(a, b *server) (ofA, ofB time.Duration, err error) {
	if ofA, err = a.processorTime(); err != nil {
		return 0, 0, err
	}
	ofB, err = b.processorTime()
	return ofA, ofB, err
}

// tick is the unit of /proc/PID/stat on every architecture of Linux that Go knows.
const tick = 10 * time.Millisecond

// processorTime is what a process has used so far, of all cores.
func (s *server) processorTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("what %s has used: %w", s.name, err)
	}
	// After the name, which may have anything in it, come state and ten numbers, then the two.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("what %s has used: /proc says %q", s.name, text)
	}
	var user, system int64
	if _, err := fmt.Sscan(string(fields[11]), &user); err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(fields[12]), &system); err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}
