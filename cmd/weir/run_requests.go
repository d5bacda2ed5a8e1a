package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// errRequestsOnly says that a daemon can't do what is asked of it, as it has nothing to do with the kernel.
var errRequestsOnly = errors.New("this daemon limits requests alone, as its file asked nothing of the kernel when it started")

// requests is the part of the daemon that judges requests.
type requests struct {
	limiter *limiter.Limiter
	log     *slog.Logger
}

func newRequests(c *config.Config, log *slog.Logger) (*requests, error) {
	l, err := limiter.New(limiter.Options{})
	if err != nil {
		return nil, fmt.Errorf("layer 7: %w", err)
	}
	return &requests{limiter: l, log: log}, nil
}

// preparedRequests is what a configuration asks of layer 7, as far as it can fail.
type preparedRequests struct{ document policy.Document }

// prepare does of a change what can fail, and changes nothing.
func (r *requests) prepare(c *config.Config) (*preparedRequests, error) {
	return &preparedRequests{document: c.Document()}, nil
}

// commit puts in force what was prepared, in one step for requests.
func (r *requests) commit(p *preparedRequests) {
	if err := r.limiter.Replace(p.document); err != nil {
		// prepare has had the same document accepted.
		r.log.Error("layer 7 keeps its policies; this is a defect of weir, please report it", "error", err)
	}
}
