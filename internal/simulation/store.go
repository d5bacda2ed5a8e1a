package simulation

import (
	"context"
	"time"

	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// storeStart is the store's time when a run begins: some day, in microseconds since 1970.
const storeStart = int64(1_700_000_000_000_000)

// newStore makes the store: the scripts' twin in Go, by the run's clock.
func newStore(now *time.Duration) *ratesync.Model {
	return ratesync.NewModel(func() int64 { return storeStart + now.Microseconds() })
}

// execute does a call, as the network brought it to the store.
func execute(store ratesync.Executor, node string, ops []ratesync.Op) []ratesync.Reply {
	replies := make([]ratesync.Reply, len(ops))
	if err := store.Do(context.Background(), node, ops, replies); err != nil {
		panic(err) // the model never fails
	}
	return replies
}

// Mutation is a fault of the code, not of the world: what a check that passes it would not have seen. That the store
// forgets debts too fast is none of them: nodes go by how its Total grows, and need its debts only where they know less.
type Mutation uint8

const (
	Sound     Mutation = iota
	DeafStore          // a node hears nothing of the others
	NoPayback          // debts end at an empty bucket
	Unmerged           // nodes do not charge themselves for the others' use
	Recount            // nodes do not report every second round's use
)

// spoil makes of the store's answers what a wrong one would have said.
func (m Mutation) spoil(ops []ratesync.Op, replies []ratesync.Reply) {
	for i := range replies {
		switch m {
		case NoPayback:
			replies[i].Total = 0
		case DeafStore:
			replies[i].Total, replies[i].Full = ops[i].Hits, 0
		}
	}
}
