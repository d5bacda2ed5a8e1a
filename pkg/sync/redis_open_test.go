package ratesync

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
)

const password = "p4ss-w0rd-of-a-test"

// open opens what has to be right.
func open(t *testing.T, o Options) *Redis {
	t.Helper()
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// answered asks until Redis answers, as it may not at once.
func answered(t *testing.T, r *Redis, op Op) Reply {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		replies := make([]Reply, 1)
		err := r.Do(context.Background(), "node", []Op{op}, replies)
		if err == nil {
			return replies[0]
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// fails asks once, and wants an error of a class, without a password in it.
func fails(t *testing.T, r *Redis, class Class) {
	t.Helper()
	before := r.Stats().Errors[class]
	replies := make([]Reply, 1)
	err := r.Do(context.Background(), "node", []Op{{ID: ID{1}, Limit: tokenBucket, Hits: 1}}, replies)
	if err == nil || Classify(err) != class || replies[0].Err == nil {
		t.Errorf("got %v (%v), %+v; want an error of class %v", err, Classify(err), replies[0], class)
	}
	if err != nil && strings.Contains(err.Error(), password) {
		t.Errorf("the password is in: %v", err)
	}
	if n := r.Stats().Errors[class] - before; n != 1 {
		t.Errorf("counted %d errors of class %v for %v", n, class, err)
	}
}

func TestOpenTLS(t *testing.T) {
	s := redistest.Start(t, redistest.Options{TLS: true})
	good := TLS{CA: s.TLS.CA, Cert: s.TLS.ClientCert, Key: s.TLS.ClientKey}
	secure := func(o TLS) *Redis {
		return open(t, Options{URLs: []string{s.URL}, TLS: o, CommandTimeout: 10 * time.Second})
	}
	left(t, secure(good), []Op{{ID: ID{1}, Limit: tokenBucket, Hits: 1}}, 9)
	fails(t, secure(TLS{CA: s.TLS.CA}), ClassRefused)
	fails(t, secure(TLS{Cert: good.Cert, Key: good.Key}), ClassOther) // a certificate of nobody whom the system knows
	wrong := good
	wrong.ServerName = "elsewhere.example"
	fails(t, secure(wrong), ClassOther)
	plain := open(t, Options{URLs: []string{"redis://" + s.Addr}, CommandTimeout: time.Second})
	fails(t, plain, ClassRefused)
}

func TestOpenUser(t *testing.T) {
	s := redistest.Start(t, redistest.Options{User: "weir", Password: password})
	op := []Op{{ID: ID{1}, Limit: tokenBucket, Hits: 1}}
	base := Options{CommandTimeout: 10 * time.Second}
	with := func(url, user, pass string) Options {
		o := base
		o.URLs, o.User, o.Password = []string{url}, user, pass
		return o
	}
	left(t, open(t, with(s.URL, "", "")), op, 9)
	left(t, open(t, with("unix://weir:"+password+"@"+s.Socket, "", "")), op, 8)
	left(t, open(t, with("redis://"+s.Addr, "weir", password)), op, 7)
	fails(t, open(t, with("redis://"+s.Addr, "", "")), ClassNoAuth)
	fails(t, open(t, with("redis://weir:"+password+"x@"+s.Addr, "", "")), ClassNoAuth)
	// The least that weir needs of an ACL, and none of another's keys.
	if _, err := s.CLI("ACL", "SETUSER", "small", "on", ">"+password, "~weir:*", "+evalsha", "+eval", "+time", "+hmget", "+exists", "+hset",
		"+pexpire", "+hlen", "+hkeys", "+hdel", "+del", "+zrevrange", "+zcount", "+zscore", "+zadd", "+zrem", "+zremrangebyscore", "+zrangebyscore"); err != nil {
		t.Fatal(err)
	}
	small := open(t, with("redis://small:"+password+"@"+s.Addr, "", ""))
	for i, l := range allLimits {
		grant := uint64(0)
		if l == concurrency {
			grant = 1
		}
		left(t, small, []Op{{ID: ID{7, byte(i)}, Limit: l, Hits: 1, Grant: grant}, {Verb: Return, ID: ID{7, byte(i)}, Limit: l, Hits: 1, Grant: grant}, {Verb: Reset, ID: ID{7, byte(i)}, Limit: l}}, 9, 10, 10)
	}
	other := with("redis://small:"+password+"@"+s.Addr, "", "")
	other.KeyPrefix = "other"
	fails(t, open(t, other), ClassNoAuth)
}

// TestOpenBad is of what can't be right: the error says how to mend it, and no password.
func TestOpenBad(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "set url"},
		{Options{URLs: []string{"http://u:" + password + "@h"}}, "rediss://"},
		{Options{URLs: []string{"redis://u:" + password + "@h:port"}}, "rediss://"},
		{Options{URLs: []string{"redis://u:" + password + "@h/%zz"}}, "rediss://"},
		{Options{URLs: []string{"redis://a", "redis://b"}}, "cluster: true"},
		{Options{URLs: []string{"redis://a/3"}, Cluster: true}, "number"},
		{Options{URLs: []string{"redis://a", "rediss://b"}, Cluster: true}, "one kind"},
		{Options{URLs: []string{"redis://a"}, Sentinel: &Sentinel{Master: "m", Addresses: []string{"a:1"}}}, "one of url and sentinel"},
		{Options{Sentinel: &Sentinel{}}, "sentinel.master"},
		{Options{URLs: []string{"redis://a"}, TLS: TLS{CA: "/none"}}, "rediss://"},
		{Options{URLs: []string{"rediss://a"}, TLS: TLS{CA: "/none"}}, "/none"},
		{Options{URLs: []string{"rediss://a"}, TLS: TLS{Cert: "/none"}}, "tls.key"},
		{Options{URLs: []string{"redis://a"}, KeyPrefix: "a{b"}, "key_prefix"},
		{Options{URLs: []string{"redis://a"}, PoolSize: -1}, "pool_size"},
		{Options{URLs: []string{"redis://a"}, CommandTimeout: -1}, "command_timeout"},
	} {
		r, err := Open(c.o)
		if err == nil {
			r.Close()
			t.Errorf("%+v: no error", c.o)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) {
			t.Errorf("got %v, want one with %q", err, c.want)
		}
	}
}

// TestErrors has a server fail in each way, and wants its class.
func TestErrors(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	o := Options{URLs: []string{s.URL}, CommandTimeout: 2 * time.Second}
	r := open(t, o)
	op := Op{ID: ID{1}, Limit: tokenBucket, Hits: 1}
	answered(t, r, op)
	cli := func(args ...string) {
		t.Helper()
		if _, err := s.CLI(args...); err != nil {
			t.Fatal(err)
		}
	}
	cli("CONFIG", "SET", "maxmemory", "1")
	fails(t, r, ClassOOM)
	cli("CONFIG", "SET", "maxmemory", "0")
	cli("CONFIG", "SET", "min-replicas-to-write", "1")
	fails(t, r, ClassReadOnly)
	cli("CONFIG", "SET", "min-replicas-to-write", "0")
	cli("REPLICAOF", "127.0.0.1", "1")
	fails(t, r, ClassReadOnly)
	cli("REPLICAOF", "NO", "ONE")
	answered(t, r, op)

	hasty := open(t, Options{URLs: o.URLs, CommandTimeout: 20 * time.Millisecond})
	answered(t, hasty, op)
	redistest.Must(t, s.Freeze())
	start := time.Now()
	fails(t, hasty, ClassTimeout)
	if took := time.Since(start); took < 15*time.Millisecond || took > time.Second {
		t.Errorf("an error after %v, with a timeout of 20ms", took)
	}
	redistest.Must(t, s.Thaw())
	answered(t, hasty, op)

	redistest.Must(t, s.Kill())
	fails(t, r, ClassRefused)
	redistest.Must(t, s.Restart())
	answered(t, r, op)
	if got := answered(t, r, op); got.Left > 8 {
		t.Errorf("%+v of a bucket that was taken of twice", got)
	}
}

// TestRecovery is how soon after its return a server that was away is heard of, though all of a pool failed meanwhile.
func TestRecovery(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	r := open(t, Options{URLs: []string{s.URL}, CommandTimeout: 100 * time.Millisecond})
	op := Op{ID: ID{1}, Limit: tokenBucket, Hits: 1}
	answered(t, r, op)
	redistest.Must(t, s.Kill())
	for range 3 * DefaultPoolSize {
		fails(t, r, ClassRefused)
	}
	redistest.Must(t, s.Restart())
	start := time.Now()
	answered(t, r, op)
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("back after %v", took)
	} else {
		t.Log("back after ", took)
	}
}

func TestRedisCluster(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{})
	r := open(t, Options{URLs: c.URLs, Cluster: true, CommandTimeout: 5 * time.Second})
	answered(t, r, Op{Verb: Look, ID: ID{1}, Limit: tokenBucket})
	var ops []Op
	for i := range 256 { // every shard
		l := allLimits[i%len(allLimits)]
		ops = append(ops, Op{ID: ID{byte(i)}, Limit: l, Hits: 3, Grant: uint64(i + 1)})
	}
	for i, reply := range do(t, r, ops...) {
		if reply.Err != nil || reply.Left != 7 {
			t.Fatalf("%d: %+v", i, reply)
		}
	}
	for i, m := range c.Masters {
		if n, err := m.CLI("DBSIZE"); err != nil || n == "0" {
			t.Errorf("master %d has %s keys: %v", i, n, err)
		}
	}
	var group []Op
	for i := range 10 {
		group = append(group, Op{ID: ID{byte(i)}, Limit: allLimits[i%len(allLimits)], Hits: 4, Grant: uint64(1000 + i), Group: 1})
	}
	left(t, r, group, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3)
	for i := range group {
		group[i].Hits, group[i].Grant = 2, uint64(2000+i)
	}
	group[7].Hits = 4 // of ten servers' shards one denies
	for i, reply := range do(t, r, group...) {
		if reply.Err != nil || reply.Admitted != (i != 7) || reply.Left != 3 {
			t.Errorf("%d of a denied group: %+v", i, reply)
		}
	}
	if s := r.Stats(); s.Kept != 0 {
		t.Errorf("%d could not be given back", s.Kept)
	}

	// One server less: the others' buckets are decided, and after a few failures nobody waits for it.
	for _, away := range []struct{ begin, end func() error }{
		{c.Masters[0].Freeze, c.Masters[0].Thaw},
		{c.Masters[1].Kill, c.Masters[1].Restart},
	} {
		redistest.Must(t, away.begin())
		oneServerAway(t, r, ops)
		redistest.Must(t, away.end())
		eventually(t, "all answer again", func() error {
			replies := make([]Reply, len(ops))
			err := r.Do(context.Background(), "node", ops, replies)
			for i := range replies {
				err = errors.Join(err, replies[i].Err)
			}
			return err
		})
	}
}

func oneServerAway(t *testing.T, r *Redis, ops []Op) {
	t.Helper()
	r.timeout = 100 * time.Millisecond
	defer func() { r.timeout = 5 * time.Second }()
	waited := 0
	for range 20 {
		replies, begun, good := make([]Reply, len(ops)), time.Now(), 0
		if err := r.Do(context.Background(), "node", ops, replies); err != nil {
			t.Errorf("an error of all, and one server of three is away: %v", err)
		}
		if time.Since(begun) >= r.timeout {
			waited++
		}
		for i := range replies {
			if replies[i].Err == nil {
				good++
			} else if replies[i].unanswered() == nil {
				t.Errorf("%d: %v", i, replies[i].Err)
			}
		}
		if good < 100 || good > 240 {
			t.Errorf("%d of 256 shards answer, of two servers of three", good)
		}
	}
	if waited > serverFailures+2 {
		t.Errorf("%d of 20 calls waited for a server that is away", waited)
	}
}

func TestRedisSentinel(t *testing.T) {
	s := redistest.StartSentinel(t, redistest.SentinelOptions{})
	r := open(t, Options{Sentinel: &Sentinel{Master: redistest.MasterName, Addresses: s.Addresses}, CommandTimeout: time.Second})
	op := Op{ID: ID{1}, Limit: tokenBucket, Hits: 1}
	if got := answered(t, r, op); got.Left != 9 {
		t.Fatalf("%+v", got)
	}
	if out, err := s.Master.CLI("WAIT", "1", "5000"); err != nil || !strings.Contains(out, "1") {
		t.Fatalf("the replica has not heard: %s %v", out, err)
	}
	redistest.Must(t, s.Master.Kill())
	fails(t, r, Classify(r.Do(context.Background(), "node", []Op{op}, make([]Reply, 1))))
	if got := answered(t, r, op); got.Left > 8 {
		t.Errorf("the new master knows nothing of the old: %+v", got)
	}
	if role, err := s.Replica.CLI("ROLE"); err != nil || !strings.HasPrefix(role, "master") {
		t.Errorf("%s, %v", role, err)
	}
}

// TestReplies is of replies that no script of weir's makes.
func TestReplies(t *testing.T) {
	for _, v := range [][]int64{nil, {1}, {3, 0, 0, 0, 0, 0, 0, 0, 0}, {-1, 0, 0, 0, 0, 0, 0, 0, 0}, {1, -1, 0, 0, 0, 0, 0, 0, 0}, {1, 0, 0, 0, -2, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0, -1}} {
		if err := new(Reply).read(v); err == nil {
			t.Errorf("%v is a reply", v)
		}
		c := scriptCall{ops: []int{0}}
		if err := c.decode(v, make([]Reply, 1)); err == nil {
			t.Errorf("%v is a call's reply", v)
		}
		c.brief = true
		if err := c.decode(append(v, 0, 0), make([]Reply, 1)); err == nil {
			t.Errorf("%v is a brief reply", v)
		}
	}
	var r Reply
	if err := r.read([]int64{1, 0, 1 << 62, 1 << 62, never, 1 << 62, 0, 0, 0}); err != nil || r.Full <= 0 || r.Wait != Never {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestClassNames(t *testing.T) {
	if got := fmt.Sprint(Classes()); got != "[other timeout refused readonly loading oom noauth moved state]" {
		t.Error(got)
	}
	for text, want := range map[string]Class{
		"READONLY You can't write against a read only replica.":                                              ClassReadOnly,
		"ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write": ClassReadOnly,
		"LOADING Redis is loading the dataset in memory":                                                     ClassLoading,
		"NOAUTH Authentication required.":                                                                    ClassNoAuth,
		"CLUSTERDOWN The cluster is down":                                                                    ClassMoved,
		"ERR that READONLY says nothing":                                                                     ClassOther,
	} {
		if got, _ := classifyReply(text); got != want {
			t.Errorf("%q is of class %v, want %v", text, got, want)
		}
	}
}
