package ratesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// keysOf names keys as [Redis.Key] does.
func keysOf(prefix string) func(string) string {
	return func(name string) string { return prefix + ":" + name }
}

func newMember(t *testing.T, client redis.Scripter, prefix, name string, change ...func(*MembershipOptions)) *Membership {
	t.Helper()
	o := MembershipOptions{
		Client: client, Key: keysOf(prefix), Name: NewNodeName(name), Timeout: 5 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	m, err := NewMembership(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// runs runs a membership; stop ends it as a clean stop does.
func runs(t *testing.T, m *Membership) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func wantNodes(t *testing.T, m *Membership, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d nodes", n), func() error {
		if s := m.State(); s.Nodes != n || len(s.Members) != n {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestNodesJoinLeaveAndDie(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var told, reports atomic.Int64
	a := newMember(t, s.client(""), "weir", "a", func(o *MembershipOptions) {
		o.OnBeat = func(ago time.Duration, nodes int) {
			if ago >= 0 && ago < waitLimit {
				told.Store(int64(nodes))
			}
		}
		o.Report = func(context.Context) error {
			if reports.Add(1) == 1 {
				return errors.New("not yet")
			}
			return nil
		}
	})
	if a.Nodes() != 1 || a.Granting() || !a.LastBeat().IsZero() {
		t.Errorf("before the first heartbeat: %+v", a.State())
	}
	runs(t, a)
	stopB := runs(t, newMember(t, s.client(""), "weir", "b"))
	gone := s.client("") // as a process that is killed: its connection ends, and it says nothing
	runs(t, newMember(t, gone, "weir", "c"))
	wantNodes(t, a, 3)
	for i, name := range []string{"a/", "b/", "c/"} {
		if m := a.State().Members[i]; !strings.HasPrefix(m.Name, name) || m.Age < 0 || m.Age > BeatLife {
			t.Errorf("member %d is %+v", i, m)
		}
	}
	eventually(t, "a grants", func() error {
		if !a.Granting() {
			return fmt.Errorf("%+v", a.State())
		}
		return nil
	})
	if reports.Load() != 2 || told.Load() != 3 {
		t.Errorf("%d reports, told of %d nodes", reports.Load(), told.Load())
	}
	stopB()
	if n := s.ZCard(t.Context(), "weir:nodes").Val(); n != 2 {
		t.Errorf("%d nodes after one left cleanly", n)
	}
	_ = gone.Close()
	died := time.Now()
	wantNodes(t, a, 1)
	if took := time.Since(died); took < BeatLife-BeatEvery-200*time.Millisecond {
		t.Errorf("a node that died was gone after %v", took)
	}
	for _, key := range s.Keys(t.Context(), "*").Val() {
		if s.PTTL(t.Context(), key).Val() <= 0 {
			t.Errorf("%s lives for ever", key)
		}
	}
}

// Of nodes that find the store empty together one begins the epoch, and all of them see the same.
func TestNewEpochAfterLoss(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const nodes = 16
	var all [nodes]*Membership
	var reports [nodes]atomic.Int64
	for i := range all {
		all[i] = newMember(t, s.client(""), "weir", fmt.Sprint("n", i), func(o *MembershipOptions) {
			o.Report = func(context.Context) error { reports[i].Add(1); return nil }
		})
	}
	race := func() (made int, epoch string) {
		var together sync.WaitGroup
		before := 0
		for _, m := range all {
			before += int(m.State().Made)
			together.Go(func() {
				if err := m.Beat(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		together.Wait()
		for _, m := range all {
			made += int(m.State().Made)
			if epoch == "" {
				epoch = m.State().Epoch
			}
			if m.State().Epoch != epoch {
				t.Errorf("%s sees epoch %s, others %s", m.State().Name, m.State().Epoch, epoch)
			}
		}
		return made - before, epoch
	}
	made, first := race()
	if made != 1 {
		t.Errorf("%d nodes began the first epoch", made)
	}
	if made, again := race(); made != 0 || again != first {
		t.Errorf("%d began another one while there was one", made)
	}
	for i, m := range all {
		if m.Granting() {
			t.Errorf("node %d grants and has not reported", i)
		}
		runs(t, m)
	}
	granting := func() error {
		for i, m := range all {
			if !m.Granting() || reports[i].Load() == 0 {
				return fmt.Errorf("node %d: %+v", i, m.State())
			}
		}
		return nil
	}
	eventually(t, "all grant", granting)
	for i := range reports {
		reports[i].Store(0)
	}
	s.must("FLUSHALL")
	lost := time.Now()
	eventually(t, "a loss is seen by all", func() error {
		for _, m := range all {
			if m.State().Epoch == first {
				return errors.New("not by all")
			}
		}
		return nil
	})
	eventually(t, "all grant again", granting)
	if took := time.Since(lost); took < EpochRest {
		t.Errorf("granting %v after the loss", took)
	}
	epochs := map[string]bool{}
	made = 0
	for _, m := range all {
		epochs[m.State().Epoch] = true
		made += int(m.State().Made)
	}
	if made != 2 || len(epochs) != 1 {
		t.Errorf("%d epochs were made and %d are seen, want 2 and 1", made, len(epochs))
	}
}

func TestPrefixesAreApart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newMember(t, s.client(""), "one", "a"), newMember(t, s.client(""), "two", "a")
	for _, m := range []*Membership{a, b, a, b} {
		if err := m.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a.Nodes() != 1 || b.Nodes() != 1 || a.State().Epoch == b.State().Epoch {
		t.Errorf("%+v\n%+v", a.State(), b.State())
	}
}

func TestGarbageAmongTheNodes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	m := newMember(t, s.client(""), "weir", "a")
	beat := func() {
		t.Helper()
		if err := m.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	s.must("ZADD", "weir:nodes", "inf", "evil/01234567", "-inf", "dead/01234567", "1e300", "\x00\xff", "9e12", strings.Repeat("x", 1<<20), "5", "", "inf", "a/../../b")
	beat()
	st := m.State()
	if st.Nodes != 2 || len(st.Members) != 2 || st.Garbage != 3 {
		t.Errorf("%d nodes, %v, %d of garbage", st.Nodes, st.Members, st.Garbage)
	}
	for _, z := range s.ZRangeWithScores(t.Context(), "weir:nodes", 0, -1).Val() {
		if z.Score > float64(time.Now().Add(time.Hour).UnixMilli()) {
			t.Errorf("a node of the future: %.40q", z.Member)
		}
	}
	var many []any
	for i := range 3 * maxNodes {
		many = append(many, "inf", fmt.Sprint("g", i))
	}
	s.must(append([]any{"ZADD", "weir:nodes"}, many...)...)
	beat()
	if st := m.State(); st.Nodes < 1 || st.Nodes > maxNodes || len(st.Members) > maxNodes {
		t.Errorf("%d nodes, %d listed", st.Nodes, len(st.Members))
	}
	if n := s.ZCard(t.Context(), "weir:nodes").Val(); n > maxNodes+10 {
		t.Errorf("%d members", n)
	}
	for _, epoch := range []string{"", "x", "0123456789abcdef", "0123456789abcdef:", ":5", "0123456789abcdef:-5", "0123:12", strings.Repeat("9", 1<<20), "0123456789ABCDEF:12"} {
		s.must("SET", "weir:epoch", epoch)
		was := m.State().Epoch
		beat()
		if st := m.State(); st.Epoch == was || st.Granting {
			t.Errorf("epoch %.30q: %s, granting %v", epoch, st.Epoch, st.Granting)
		}
	}
	// From a clock that went back: the epoch stays, and is young once more.
	s.must("SET", "weir:epoch", "0123456789abcdef:99999999999999999999")
	beat()
	if e := m.State().Epoch; e != "0123456789abcdef" {
		t.Errorf("epoch %s", e)
	}
	if v := s.Get(t.Context(), "weir:epoch").Val(); len(v) > 40 || strings.HasSuffix(v, "99999") {
		t.Errorf("the epoch is kept as %s", v)
	}
	for _, key := range []string{"weir:nodes", "weir:epoch"} {
		s.must("DEL", key)
		s.must("LPUSH", key, "x")
		if err := m.Beat(t.Context()); !redis.HasErrorPrefix(errors.Unwrap(err), "WRONGTYPE") {
			t.Errorf("%s is a list: %v", key, err)
		}
		s.must("DEL", key)
		beat()
	}
}

// By a given clock that jumps: the dead age out whatever it does, and nobody alive is lost.
func TestRedisClockJumps(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	script := redis.NewScript(heartbeatScript)
	beat := func(name string, now int64) beatReply {
		t.Helper()
		answer, err := script.Run(t.Context(), s.Client, []string{"weir:nodes", "weir:epoch"}, name, BeatLife.Milliseconds(),
			60000, "0123456789abcdef", 3600000, maxNodes, 1, now).Slice()
		if err != nil {
			t.Fatal(err)
		}
		r, err := readBeat(answer)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const noon, hour = int64(1_800_000_000_000), int64(3_600_000)
	a, b := "a/00000000", "b/00000000"
	if r := beat(a, noon); r.count != 1 || !r.made || r.epochAge != 0 || !r.now.Equal(time.UnixMilli(noon)) {
		t.Errorf("%+v", r)
	}
	if r := beat(b, noon+BeatLife.Milliseconds()); r.count != 2 || r.epochAge != BeatLife || r.members[0].Age != BeatLife {
		t.Errorf("at the end of its life: %+v", r)
	}
	if r := beat(b, noon+BeatLife.Milliseconds()+1); r.count != 1 || r.members[0].Name != b {
		t.Errorf("after it: %+v", r)
	}
	back := noon - hour
	if r := beat(a, back); r.count != 2 || r.made || r.epochAge != 0 {
		t.Errorf("an hour back: %+v", r)
	}
	if r := beat(a, back+2000); r.count != 2 || r.epochAge != 2*time.Second {
		t.Errorf("two seconds on: %+v", r)
	}
	if r := beat(a, back+3001); r.count != 1 {
		t.Errorf("the silent one is still counted: %+v", r)
	}
	if r := beat(b, noon+24*hour); r.count != 1 || r.made {
		t.Errorf("a day on: %+v", r)
	}
}
