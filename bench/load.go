package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// connections is how many a load has, each with one question at a time.
const connections = 32

// load asks a server for a while and returns answers per second.
type load func(ctx context.Context, s *server, d time.Duration) (float64, error)

// httpLoad writes one request again and again, and reads just as much of each answer as it must: the client
// is to be no part of the figure, as far as that goes on one machine.
func httpLoad(_ context.Context, s *server, d time.Duration) (float64, error) {
	request := []byte("GET /v1/auth HTTP/1.1\r\nHost: weir\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Method: GET\r\n" +
		"X-Forwarded-Uri: /api/v2/pipelines\r\nX-User: alice\r\n\r\n")
	return onEach(connections, d, func(_ int, until time.Time) (int, error) {
		conn, err := net.Dial("tcp", s.http)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		answers := bufio.NewReader(conn)
		n := 0
		for ; time.Now().Before(until); n++ {
			if _, err := conn.Write(request); err != nil {
				return n, err
			}
			if err := readAnswer(answers); err != nil {
				return n, err
			}
		}
		return n, nil
	})
}

// readAnswer reads an answer, which must be 200.
func readAnswer(r *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return fmt.Errorf("the answer is %q", line)
		}
		if len(line) == 0 {
			_, err := io.CopyN(io.Discard, r, int64(length))
			return err
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
}

// descriptors are what a load on a rate limit service asks about, one at a time, and what it is to be told.
type descriptors struct {
	key    string
	values []string
	code   ratelimit.RateLimitResponse_Code // UNKNOWN: any
}

// alice is one caller, who is within her limit.
func alice() descriptors {
	return descriptors{"user", []string{"alice"}, ratelimit.RateLimitResponse_OK}
}

// requests are one for each descriptor.
func (d descriptors) requests() []*ratelimit.RateLimitRequest {
	all := make([]*ratelimit.RateLimitRequest, len(d.values))
	for i, value := range d.values {
		all[i] = &ratelimit.RateLimitRequest{Domain: "weir", Descriptors: []*common.RateLimitDescriptor{{
			Entries: []*common.RateLimitDescriptor_Entry{{Key: d.key, Value: value}},
		}}}
	}
	return all
}

// others is the part of the answers that may be others than expected: a limit's window may begin anew.
const others = 0.01

func (d descriptors) tolerate(other, of int) error {
	if float64(other) > 1+others*float64(of) {
		return fmt.Errorf("%d of %d answers are not %v", other, of, d.code)
	}
	return nil
}

// rlsLoad asks for descriptors in an order of its own.
func rlsLoad(of descriptors) load {
	requests := of.requests()
	return func(ctx context.Context, s *server, d time.Duration) (float64, error) {
		conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		client := ratelimit.NewRateLimitServiceClient(conn)
		return onEach(connections, d, func(at int, until time.Time) (n int, err error) {
			choose, other := newRandom(at), 0
			for ; time.Now().Before(until); n++ {
				answer, err := client.ShouldRateLimit(ctx, requests[choose.below(len(requests))])
				if err != nil {
					return n, err
				}
				if of.code != ratelimit.RateLimitResponse_UNKNOWN && answer.OverallCode != of.code {
					other++
				}
			}
			return n, of.tolerate(other, n)
		})
	}
}

// onEach runs ask on each of n connections, and returns what all of them did in a second.
func onEach(n int, d time.Duration, ask func(at int, until time.Time) (int, error)) (float64, error) {
	counts, errs := make([]int, n), make([]error, n)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range n {
		wg.Go(func() { counts[i], errs[i] = ask(i, start.Add(d)) })
	}
	wg.Wait()
	took, sum := time.Since(start), 0
	for i := range n {
		if errs[i] != nil {
			return 0, errs[i]
		}
		sum += counts[i]
	}
	return float64(sum) / took.Seconds(), nil
}

// measureServers lets servers take turns under one load.
func measureServers(ctx context.Context, ask load, servers []*server, o options) ([][]float64, error) {
	rates := make([][]float64, len(servers))
	for round := range o.rounds {
		for turn := range servers {
			i := (turn + round) % len(servers)
			rate, err := ask(ctx, servers[i], o.each)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", servers[i].name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	return rates, nil
}
