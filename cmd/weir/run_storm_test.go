package main_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// gateStorm: there is no moment between two files. Each of two has a policy that admits one request a day, so
// that whoever is asked while they take turns denies, unless neither were in force.
func gateStorm(t *testing.T, binary string) {
	file := func(name string) string {
		return "policies: [{name: " + name + ", scope: global, layer: l7, limit: 1, window: 1d}]\n"
	}
	g := newGate(t, binary, file("odd"))
	client := &http.Client{Timeout: runLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	group, _ := errgroup.WithContext(ctx)
	var allowed, denied atomic.Int64
	for range 3 {
		group.Go(func() error {
			for ctx.Err() == nil {
				answer, err := client.Post("http://"+g.http+"/v1/check", "application/json", strings.NewReader(`{"context":{"user_id":"anybody"}}`))
				if err != nil {
					return err
				}
				answer.Body.Close()
				switch answer.StatusCode {
				case 200:
					allowed.Add(1)
				case 429:
					denied.Add(1)
				default:
					return fmt.Errorf("status %s", answer.Status)
				}
			}
			return nil
		})
	}
	const reloads = 30
	for n := range reloads {
		g.write(file([]string{"even", "odd"}[n%2]))
		g.reload("msg=reloaded", n+1)
	}
	stop()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if allowed.Load() != 2 || denied.Load() < reloads {
		t.Errorf("%d were allowed and %d denied over %d reloads, want 2, one of each policy", allowed.Load(), denied.Load(), reloads)
	}
}
