package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// healthBody is the answer of /v1/health. Clients read it: add fields, rename none.
type healthBody struct {
	limiter.Health
	AverageLatencyMS float64 `json:"average_latency_ms"`
	ActivePolicies   int     `json:"active_policies"`
}

// figures asks for statistics once at a time: to count walks over all of the bucket table, and nobody who can
// reach the port is to keep more than one CPU busy with that.
type figures struct {
	source Figures
	turn   chan struct{} // has room for one
}

func (f *figures) stats(ctx context.Context) (limiter.Stats, error) {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return limiter.Stats{}, ctx.Err()
	}
	defer func() { <-f.turn }()
	return f.source.Stats(ctx), nil
}

func figureRoutes(source Figures) []route {
	f := &figures{source: source, turn: make(chan struct{}, 1)}
	return []route{
		{"GET /v1/health", forAll, answer(func(r *http.Request) (any, error) {
			s := source.Counters()
			return healthBody{source.Health(r.Context()), s.AverageLatencyMS, s.ActivePolicies}, nil
		})},
		{"GET /v1/stats", forAll, answer(func(r *http.Request) (any, error) { return f.stats(r.Context()) })},
	}
}

// bucketRoutes are guarded: they tell how busy single clients are.
func bucketRoutes(b Buckets) []route {
	const path = "/v1/buckets/{policy}/{key...}"
	return []route{
		{"GET " + path, guarded, answer(func(r *http.Request) (any, error) {
			state, err := b.Bucket(r.PathValue("policy"), r.PathValue("key"))
			return state, bucketProblem(err)
		})},
		{"DELETE " + path, guarded, answer(func(r *http.Request) (any, error) {
			return nil, bucketProblem(b.ResetBucket(r.PathValue("policy"), r.PathValue("key")))
		})},
	}
}

func bucketProblem(err error) error {
	if errors.Is(err, limiter.ErrUnknownPolicy) {
		return NewProblem(http.StatusNotFound, "%v (weir policy list has those that are in force)", err)
	}
	return err
}
