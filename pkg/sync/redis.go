package ratesync

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxKeys is how many buckets one script call has at most, and maxOps how many operations: others wait for it.
	maxKeys = 128
	maxOps  = 512
	// maxNode bounds the name of a node, which buckets remember.
	maxNode = 128
)

// Redis is an [Executor] by Lua scripts on a Redis server, on the master that Sentinels name, or on a Redis Cluster.
type Redis struct {
	client  redis.UniversalClient
	cluster bool
	prefix  string
	timeout time.Duration
	secrets []string
	servers servers
	clock   func() int64 // of tests: the time that scripts are given; nil: Redis' own

	commands, keys, trips, kept atomic.Uint64
	errors                      [classes]atomic.Uint64
}

var _ Prompt = (*Redis)(nil)

// Prompt implements [Prompt]: connections heed a context's deadline, and what makes them is waited for no longer. The client of a
// cluster has ways to wait for others that learn where its slots are.
func (r *Redis) Prompt() bool { return !r.cluster }

// Client is the client that decisions go through, with their timeouts.
func (r *Redis) Client() redis.UniversalClient { return r.client }

// Close ends all connections.
func (r *Redis) Close() error { return r.client.Close() }

// Key is a key beside the buckets: prefix and name, in a Redis Cluster all on one shard.
func (r *Redis) Key(name string) string {
	if r.cluster {
		return "{" + r.prefix + "}:" + name
	}
	return r.prefix + ":" + name
}

// letters tell the buckets of families apart, in which they are different types.
var letters = map[family]string{buckets: ":b:{", windows: ":w:{", flights: ":c:{"}

// key is where a bucket is kept: those of a shard, of which there are 256, are on one server of a Redis Cluster.
func (r *Redis) key(f family, id *ID) string {
	const digits = "0123456789abcdef"
	var b [64]byte
	k := append(b[:0], r.prefix...)
	k = append(k, letters[f]...)
	k = append(k, digits[id[0]>>4], digits[id[0]&15], '}', ':')
	return string(base64.RawURLEncoding.AppendEncode(k, id[:]))
}

// Do implements [Executor]: one pipeline of script calls to each server, and a second one to a server that does not know
// the scripts yet. If only some of the servers of a cluster failed, Err of the operations that they have says so, an [Error],
// and the others are done: there is no error of all then.
func (r *Redis) Do(ctx context.Context, node string, ops []Op, replies []Reply) error {
	switch {
	case len(replies) < len(ops):
		return fmt.Errorf("%d replies for %d operations", len(replies), len(ops))
	case len(ops) == 0:
		return nil
	case len(node) > maxNode:
		return fmt.Errorf("the name of a node has %d bytes (at most %d)", len(node), maxNode)
	}
	if by, has := ctx.Deadline(); !has || time.Until(by) > r.timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	var few [1]operation // most calls have one
	prepared := few[:]
	if len(ops) != 1 {
		prepared = make([]operation, len(ops))
	}
	for i := range ops {
		var err error
		if prepared[i], err = prepare(&ops[i]); err != nil {
			replies[i] = Reply{Err: err}
			prepared[i].kind = 0
		}
	}
	var one [1]scriptCall
	calls := one[:]
	if o := &prepared[0]; len(ops) == 1 && o.verb == Take && o.kind == 1 {
		calls[0] = r.take(ctx, o, &ops[0].ID, first)
	} else {
		calls = r.divide(ctx, node, ops, prepared)
	}
	if len(calls) == 0 {
		return nil
	}
	sent := r.rest(ctx, calls)
	r.send(ctx, sent)
	r.tell(sent)
	var err error
	answers := len(calls) - len(sent) // which were not asked for say nothing of the store
	for i := range calls {
		if failed := r.read(&calls[i], replies); failed == nil {
			answers++
		} else if err == nil {
			err = failed
		}
	}
	if r.cluster && answers != 0 {
		err = nil
	}
	if parts := scattered(calls, prepared); len(parts) != 0 {
		r.undo(ctx, node, ops, replies, parts)
	}
	return err
}

// send does the calls, and those of unknown scripts once more with the scripts themselves.
func (r *Redis) send(ctx context.Context, calls []scriptCall) {
	if len(calls) == 0 {
		return
	}
	r.pipeline(ctx, calls)
	var unknown []scriptCall
	for i := range calls {
		if c := &calls[i]; c.cmd.Err() != nil && redis.HasErrorPrefix(c.cmd.Err(), "NOSCRIPT") {
			c.load(ctx)
			unknown = append(unknown, *c)
		}
	}
	if len(unknown) != 0 {
		r.pipeline(ctx, unknown)
	}
	for i := range calls {
		if err := calls[i].cmd.Err(); err != nil {
			r.errors[Classify(err)].Add(1) // once: it is one failure, whatever it took with it
			return
		}
	}
}

// pipeline leaves what came of each call in it.
func (r *Redis) pipeline(ctx context.Context, calls []scriptCall) {
	r.trips.Add(1)
	r.commands.Add(uint64(len(calls)))
	for i := range calls {
		r.keys.Add(uint64(calls[i].keys))
	}
	if r.cluster {
		r.each(ctx, calls)
		return
	}
	r.together(ctx, calls)
}

// together does calls in one pipeline.
func (r *Redis) together(ctx context.Context, calls []scriptCall) {
	if len(calls) == 1 {
		_ = r.client.Process(ctx, calls[0].cmd) // the command has the error
		return
	}
	pipe := r.client.Pipeline()
	for i := range calls {
		_ = pipe.Process(ctx, calls[i].cmd) // queues it
	}
	_, _ = pipe.Exec(ctx) // as above
}

// read makes replies of what a call came to.
func (r *Redis) read(c *scriptCall, replies []Reply) error {
	v, err := c.cmd.Result()
	if err != nil {
		err = r.wrap(err)
	} else if err = c.decode(v, replies); err != nil {
		r.errors[ClassOther].Add(1)
	}
	if err != nil {
		for _, at := range c.ops {
			replies[at] = Reply{Err: err}
		}
		return err
	}
	for _, at := range c.ops {
		if replies[at].Err == ErrState {
			r.errors[ClassState].Add(1)
		}
	}
	return nil
}

// scriptCall is one call of a script.
type scriptCall struct {
	script *script
	keys   int
	ops    []int  // which of the call's operations, in their order
	brief  bool   // taking, whose reply has no more than a Take needs
	server string // of a cluster
	cmd    *redis.IntSliceCmd
	args   []any
}

func (c *scriptCall) load(ctx context.Context) {
	c.args[0], c.args[1] = "eval", c.script.source
	c.cmd.SetErr(nil)
	*c.cmd = *redis.NewIntSliceCmd(ctx, c.args...)
}

func (c *scriptCall) decode(v []int64, replies []Reply) error {
	if c.brief {
		if len(v) != 4 {
			return errShape
		}
		return replies[c.ops[0]].read([]int64{v[0], 0, v[1], v[2], v[3], 0, 0, 0, 0})
	}
	if len(v) != fields*len(c.ops) {
		return errShape
	}
	for i, at := range c.ops {
		if err := replies[at].read(v[i*fields:][:fields]); err != nil {
			return err
		}
	}
	return nil
}

// first is which operation it is of a call that has one.
var first = []int{0}

// take is the call of a single Take of token_bucket.
func (r *Redis) take(ctx context.Context, o *operation, id *ID, ops []int) scriptCall {
	args := make([]any, 0, 8)
	// The client writes numbers in as many digits as it takes to read the same.
	args = append(args, "evalsha", taking.sha, 1, r.key(o.family, id), uint64(o.hits), o.p1, uint64(o.p2))
	if r.clock != nil {
		args = append(args, strconv.FormatInt(r.clock(), 10))
	}
	return scriptCall{script: &taking, keys: 1, ops: ops, brief: true, args: args, cmd: redis.NewIntSliceCmd(ctx, args...)}
}

// wrap makes an error of go-redis one that has a class and no password.
func (r *Redis) wrap(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	text := err.Error()
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return &Error{Class: Classify(err), text: text, err: err}
}
