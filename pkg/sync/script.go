package ratesync

import (
	"crypto/sha1"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

//go:embed scripts/*.lua
var sources embed.FS

// script is a Lua script, and the name under which Redis knows it once it ran.
type script struct{ source, sha string }

func newScript(files ...string) script {
	var source []byte
	for _, f := range files {
		text, err := sources.ReadFile("scripts/" + f + ".lua")
		if err != nil {
			panic(err) // embedded: a file that is not there did not compile
		}
		source = append(source, text...)
	}
	sum := sha1.Sum(source)
	return script{string(source), hex.EncodeToString(sum[:])}
}

// family is a set of algorithms whose state is alike, a bit of a mask. A call has the script of those alone that it
// needs, because Lua makes a script's functions at each call.
type family uint8

const (
	buckets family = 1 << iota
	windows
	flights
	families = iota
)

// scripts are those of any operations, by mask, token is that of token buckets without groups and Reset, and taking that of
// a single [Take] of one.
var (
	scripts = makeScripts()
	token   = newScript("token")
	taking  = newScript("take")
)

func makeScripts() (all [1 << families]script) {
	files := [families]string{"bucket", "window", "concurrency"}
	for mask := range all {
		parts := []string{"head"}
		for i, f := range files {
			if mask>>i&1 != 0 {
				parts = append(parts, f)
			}
		}
		all[mask] = newScript(append(parts, "tail")...)
	}
	return all
}

// longest is how many microseconds a bucket may take to be full: what policies may say, and some more.
const longest = 1e15

// maxFlightHits is how many hits a grant of concurrency has at most: each is a member of a sorted set.
const maxFlightHits = 1024

// operation is an [Op] as the scripts and the model compute with it.
type operation struct {
	verb   Verb
	kind   uint8 // of algorithm: the number of it in the scripts
	family family
	group  int
	key    int // which of the call's
	seq    uint32
	// p1 is of buckets the rate in tokens a microsecond, of others the window in microseconds; p2 the burst or limit.
	p1, p2                  float64
	hits, want, back, grant float64
	name                    uint64 // Grant, exactly
}

var kinds = map[policy.Algorithm]struct {
	kind   uint8
	family family
	verbs  [Reset + 1]bool
}{
	policy.AlgorithmTokenBucket:   {1, buckets, [...]bool{true, true, true, true, true, true}},
	policy.AlgorithmLeakyBucket:   {2, buckets, [...]bool{Take: true, Look: true, Return: true, Reset: true}},
	policy.AlgorithmFixedWindow:   {3, windows, [...]bool{Take: true, Look: true, Lease: true, Return: true, Reset: true}},
	policy.AlgorithmSlidingWindow: {4, windows, [...]bool{Take: true, Look: true, Lease: true, Return: true, Reset: true}},
	policy.AlgorithmConcurrency:   {5, flights, [...]bool{Take: true, Look: true, Return: true, Reset: true}},
}

var (
	errLimit = errors.New("an operation without a limit from 1 to 2^40 and a window, or one that takes 30 years to fill")
	errHits  = fmt.Errorf("more than %d hits of concurrency at once", maxFlightHits)
)

// prepare makes an operation of an Op, or says why it can't be one.
func prepare(op *Op) (operation, error) {
	l := op.Limit
	if l == nil || l.Limit == 0 || l.Limit > policy.MaxTokens || l.Burst > policy.MaxTokens || l.Window <= 0 {
		return operation{}, errLimit
	}
	k, known := kinds[l.Algorithm]
	if !known || op.Verb > Reset || !k.verbs[op.Verb] {
		return operation{}, fmt.Errorf("no operation %d of algorithm %q", op.Verb, l.Algorithm)
	}
	o := operation{
		verb: op.Verb, kind: k.kind, family: k.family, group: op.Group, seq: op.Seq,
		hits: tokens(op.Hits), want: tokens(op.Want), back: tokens(op.Back), name: op.Grant,
	}
	if op.Verb == Lease {
		o.want = max(o.want, o.hits)
	}
	if k.family == buckets {
		if l.Burst == 0 {
			return operation{}, errLimit
		}
		o.p1, o.p2 = float64(l.Limit)*1000/float64(l.Window), float64(l.Burst)
	} else {
		o.p1, o.p2 = float64((l.Window+999)/1000), float64(l.Limit)
	}
	if k.family == buckets && o.p2/o.p1 > longest || k.family != buckets && o.p1 > longest {
		return operation{}, errLimit
	}
	if k.family == flights {
		if op.Hits > maxFlightHits && op.Hits <= l.Limit {
			return operation{}, errHits
		}
		if op.Verb == Return {
			o.hits = min(o.hits, maxFlightHits)
		}
	} else {
		o.grant = float64(min(op.Grant, exact))
	}
	return o, nil
}

// tokens is a number of tokens that is exact in Lua; more than a bucket can hold is as much as too many.
func tokens(n uint64) float64 { return float64(min(n, policy.MaxTokens+1)) }

// append adds an operation to an argument of the scripts, in the layout that tail.lua unpacks.
func (o *operation) append(b []byte, group uint16) []byte {
	b = append(b, byte(o.verb), o.kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(o.key+1))
	b = binary.LittleEndian.AppendUint16(b, group)
	b = binary.LittleEndian.AppendUint32(b, o.seq)
	for _, x := range [...]float64{o.p1, o.p2, o.hits, o.want, o.back, o.grant} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	if o.family == flights {
		b = strconv.AppendUint(b, o.name, 10)
	}
	return b
}

// fields is how many numbers a reply of the scripts has for each operation: those of [figures].
const fields = 9

// figures are what the scripts and the model say of an operation; times are in microseconds.
type figures struct {
	status, granted, left, full, wait, delay, good, total, grant float64
}

// Values of figures.status.
const (
	denied = iota
	admitted
	broken
)

// never is the wait of hits that no wait will do for.
const never = -1

func (f *figures) array() [fields]int64 {
	return [...]int64{
		int64(f.status), int64(f.granted), int64(f.left), int64(f.full), int64(f.wait), int64(f.delay),
		int64(f.good), int64(f.total), int64(f.grant),
	}
}

var errShape = errors.New("the store's reply is not one of weir's scripts")

// read makes a reply of what a script said, of which nothing is believed that can't be.
func (r *Reply) read(v []int64) error {
	if len(v) != fields || v[0] < denied || v[0] > broken || v[4] < never {
		return errShape
	}
	for i, x := range v {
		if x < 0 && i != 4 {
			return errShape
		}
	}
	if v[0] == broken {
		*r = Reply{Err: ErrState}
		return nil
	}
	*r = Reply{
		Admitted: v[0] == admitted, Granted: uint64(v[1]), Left: uint64(v[2]), Full: microseconds(v[3]), Wait: Never,
		Delay: microseconds(v[5]), Good: microseconds(v[6]), Total: uint64(v[7]), Grant: uint64(v[8]),
	}
	if v[4] != never {
		r.Wait = microseconds(v[4])
	}
	return nil
}

// microseconds is a time that does not overflow.
func microseconds(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}
