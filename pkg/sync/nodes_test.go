package ratesync

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestNodeNames(t *testing.T) {
	for instance, want := range map[string]string{
		"node-1": "node-1/", "": "weir/", "a b/c\n": "a-b-c-/", "é": "--/", strings.Repeat("x", 100): strings.Repeat("x", 64) + "/",
	} {
		name := NewNodeName(instance)
		if !strings.HasPrefix(name, want) || len(name) != len(want)+8 || !isNodeName(name) {
			t.Errorf("%q is named %q", instance, name)
		}
	}
	if NewNodeName("a") == NewNodeName("a") {
		t.Error("two processes of one name")
	}
	for _, bad := range []string{"", "a", "/01234567", "a/0123456", "a/0123456G", "a/012345678", "a/b/01234567", "a b/01234567", strings.Repeat("x", 65) + "/01234567"} {
		if isNodeName(bad) {
			t.Errorf("%q is a name", bad)
		}
	}
}

// The epoch by a given clock.
func TestEpoch(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var e Epoch
	e.Report("")
	if e.Granting(at(0)) {
		t.Error("granting before an epoch was seen")
	}
	if !e.Saw("a", 100*time.Millisecond, at(0)) || e.Saw("a", 200*time.Millisecond, at(100)) {
		t.Error("what is new")
	}
	if e.Granting(at(1000)) {
		t.Error("granting before the report")
	}
	e.Report("b")
	if e.Granting(at(1000)) {
		t.Error("a report in another epoch counts")
	}
	e.Report("a")
	rested := int(EpochRest.Milliseconds()) - 100
	if e.Granting(at(rested-1)) || !e.Granting(at(rested)) {
		t.Error("not exactly when it is EpochRest old")
	}
	if EpochRest < BeatEvery+BeatEvery/20+100*time.Millisecond {
		t.Error("over before the heartbeat by which the last node hears of it, and its report")
	}
	if e.Saw("a", time.Hour, at(5000)); !e.Granting(at(5000)) {
		t.Error("an old epoch, and not granting")
	}
	if !e.Saw("b", time.Hour, at(6000)) || e.Granting(at(6000)) {
		t.Error("an old epoch that is new to this node needs its report")
	}
	e.Report("a")
	if e.Granting(at(6001)) {
		t.Error("a report that came too late for its epoch counts for the next")
	}
	e.Report("b")
	if !e.Granting(at(6001)) {
		t.Error("reported, old, and not granting")
	}
}

func TestStanding(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var s standing
	if !s.list(at(0)) {
		t.Error("the first heartbeat lists")
	}
	reply := func(count, garbage int, listed bool) beatReply {
		return beatReply{now: at(3600_000), count: count, epoch: "0123456789abcdef", listed: listed, garbage: garbage}
	}
	s.apply(reply(5, 2, true), at(0), at(40))
	if s.nodes != 3 || !s.sent.Equal(at(0)) || s.skew != time.Hour-20*time.Millisecond || !s.list(at(1)) {
		t.Errorf("%+v", s)
	}
	s.apply(reply(200, 0, false), at(3000), at(3001))
	if s.nodes != 200 || s.list(at(3001)) || !s.list(at(10_040)) {
		t.Errorf("%+v", s)
	}
	s.apply(reply(1, 7, true), at(6001), at(6002))
	if s.nodes != 1 || s.beats != 3 {
		t.Errorf("after a gap: %+v", s)
	}
}

func TestReadBeatRefuses(t *testing.T) {
	const id = "0123456789abcdef"
	for _, bad := range [][]any{
		nil, {}, {int64(1)}, {int64(1), int64(1), id, int64(0)}, {int64(-1), int64(1), id, int64(0), int64(0)}, {int64(1), int64(0), id, int64(0), int64(0)},
		{int64(1), int64(1), "x", int64(0), int64(0)}, {int64(1), int64(1), id, int64(-1), int64(0)}, {"1", int64(1), id, int64(0), int64(0)},
		{int64(1), int64(1), id, int64(1) << 62, int64(0)}, {nil, nil, nil, nil, nil},
	} {
		if r, err := readBeat(bad); !errors.Is(err, errBeatReply) {
			t.Errorf("%v is %+v", bad, r)
		}
	}
	r, err := readBeat([]any{int64(1), int64(1) << 40, id, int64(0), int64(0), "b/01234567", int64(5), "a/01234567", int64(-5), 5, "x", "c/01234567", nil, "odd"})
	if err != nil || r.count != maxNodes || len(r.members) != 1 || r.garbage != 3 {
		t.Errorf("%+v %v", r, err)
	}
}

func FuzzReadBeat(f *testing.F) {
	f.Add(int64(1), int64(2), "0123456789abcdef", int64(3), "a/01234567", int64(4))
	f.Fuzz(func(t *testing.T, now, count int64, id string, age int64, name string, nodeAge int64) {
		r, err := readBeat([]any{now, count, id, age, int64(0), name, nodeAge})
		if err != nil {
			return
		}
		var s standing
		s.apply(r, time.Unix(0, 0), time.Unix(1, 0))
		if s.nodes < 1 || s.nodes > maxNodes || len(s.members) > 1 || s.epoch.Granting(time.Unix(2, 0)) {
			t.Errorf("%+v", s)
		}
	})
}
