package main

import (
	"strings"

	"github.com/weir-limiter/weir/pkg/server"
)

// daemonState is the answer of /readyz.
type daemonState struct {
	Ready   bool             `json:"ready"`
	Missing []server.Missing `json:"missing"`
	server.Config
}

func (s *daemonState) missingText() string {
	var all []string
	for _, m := range s.Missing {
		all = append(all, m.Interface+" ("+m.Hook+"): "+m.Reason)
	}
	return strings.Join(all, "; ")
}
