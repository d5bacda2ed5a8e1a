package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-limiter/weir/pkg/policy"
)

// policies measures one source within one, two and eight policies.
func (r *runner) policies(ctx context.Context, cpus []int) (_ []PolicyRow, err error) {
	counts := []int{1, 2, 8}
	s := &scenario{label: "several policies", sources: 1, verdict: policy.VerdictPass, warmUp: warmUpOne}
	var lanes []*lane
	defer func() { err = errors.Join(err, closeAll(lanes)) }()
	for _, n := range counts {
		w, err := newWeir(generous(n), r.entries)
		if err != nil {
			return nil, fmt.Errorf("%d policies: %w", n, err)
		}
		l, err := newLane(w, s.sources, s.verdict)
		if err != nil {
			return nil, fmt.Errorf("%d policies: %w", n, err)
		}
		lanes = append(lanes, l)
	}
	measured, err := r.measure(ctx, s, lanes, cpus)
	if err != nil {
		return nil, err
	}
	rows := make([]PolicyRow, len(counts))
	for i, n := range counts {
		rows[i] = PolicyRow{Policies: n, Weir: measured[i]}
		if n > 1 {
			rows[i].Further = (measured[i].Median - measured[0].Median) / float64(n-1)
		}
	}
	return rows, nil
}

// parallel measures one source whose packets come in on two CPUs at once.
func (r *runner) parallel(ctx context.Context) ([]Row, error) {
	cpus, err := lastCPUs(2)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, s := range scenarios(r.many, r.entries) {
		if s.sources != 1 {
			continue
		}
		s.target = 0 // what is compared is not the same: the LRU's CPUs share nothing
		s.label = s.String() + ", two CPUs"
		row, err := r.row(ctx, &s, cpus)
		if err != nil {
			return nil, err
		}
		rows = append(rows, *row)
	}
	return rows, nil
}
