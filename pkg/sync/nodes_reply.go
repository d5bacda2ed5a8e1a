package ratesync

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
)

// maxInstance bounds the part of a node's name that people choose.
const maxInstance = 64

// nodeDigits is how long the random part of a node's name is, and epochDigits an epoch's ID.
const (
	nodeDigits  = 8
	epochDigits = 16
)

// NewNodeName names a process that starts now: the instance, of which only letters, digits and ".", "_", "-" are kept, "/"
// and eight random hex digits, so that a node that was started again is another one.
func NewNodeName(instance string) string {
	kept := []byte(instance)
	kept = kept[:min(len(kept), maxInstance)]
	for i, c := range kept {
		if !plain(c) {
			kept[i] = '-'
		}
	}
	return cmp.Or(string(kept), "weir") + "/" + randomHex(nodeDigits)
}

// plain tells whether a byte may be in a node's name.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

func randomHex(digits int) string {
	b := make([]byte, digits/2)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// isHex tells whether s is so many lower-case hex digits.
func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// isNodeName tells whether a node could be called so.
func isNodeName(s string) bool {
	instance, id, ok := strings.Cut(s, "/")
	if !ok || instance == "" || len(instance) > maxInstance || !isHex(id, nodeDigits) {
		return false
	}
	for i := range len(instance) {
		if !plain(instance[i]) {
			return false
		}
	}
	return true
}

// Member is a node that is alive.
type Member struct {
	Name string
	Age  time.Duration // of its last heartbeat
}

// beatReply is what the store answered to a heartbeat.
type beatReply struct {
	now      time.Time // by its clock
	count    int       // of nodes and whatever else is among them
	epoch    string
	epochAge time.Duration
	made     bool // the epoch began with this heartbeat
	listed   bool
	members  []Member // by name, if they were listed
	garbage  int      // that were listed and are none
}

var errBeatReply = errors.New("the store answered to a heartbeat what is no answer (is the Redis behind redis.url one that others write to?)")

// maxAge bounds ages that a store may tell.
const maxAge = 100 * 365 * 24 * time.Hour

// readBeat reads an answer of scripts/heartbeat.lua, from which anything may come.
func readBeat(answer []any) (beatReply, error) {
	var r beatReply
	now, ok1 := at[int64](answer, 0)
	count, ok2 := at[int64](answer, 1)
	id, ok3 := at[string](answer, 2)
	age, ok4 := at[int64](answer, 3)
	made, ok5 := at[int64](answer, 4)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || now < 0 || count < 1 || age < 0 || age > maxAge.Milliseconds() || !isHex(id, epochDigits) {
		return r, errBeatReply
	}
	r.now, r.count, r.epoch = time.UnixMilli(now), int(min(count, maxNodes)), id
	r.epochAge, r.made, r.listed = time.Duration(age)*time.Millisecond, made == 1, len(answer) > 5
	for i := 5; i+1 < len(answer) && len(r.members) < maxNodes; i += 2 {
		name, ok := at[string](answer, i)
		age, aged := at[int64](answer, i+1)
		if !ok || !aged || !isNodeName(name) || age < 0 || age > maxAge.Milliseconds() {
			r.garbage++
			continue
		}
		r.members = append(r.members, Member{Name: name, Age: time.Duration(age) * time.Millisecond})
	}
	slices.SortFunc(r.members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}
