package ratesync

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// What a set of policies may have. The store keeps at most what a configuration file may have, as it is read in
// one piece; what that unpacks to is bounded as every JSON text of policies is.
const (
	// MaxPolicyBody is the size of the largest set as the store has it, in bytes.
	MaxPolicyBody = 2 << 20
	// MaxPolicyText is the size of the largest set as JSON, in bytes.
	MaxPolicyText = policy.MaxJSONSize
	// MinPolicyTTL is how long a set is kept at least when no node is up to keep it from expiring.
	MinPolicyTTL = 30 * 24 * time.Hour

	maxVersion  = 1<<53 - 1 // what Lua counts exactly
	maxPolicyBy = 128
)

// How a set is written.
const (
	EncodingJSON = "json"
	EncodingZstd = "zstd"
	EncodingNone = "none" // there is none: nodes go back to their own files
)

// PolicySet is one version of the policies and lists of a whole cluster. It is never changed.
type PolicySet struct {
	// Begun is when the count of versions began: when a set was stored and there was no other, in ms by Redis' clock. A
	// set of a later count is the newer one, whatever its version.
	Begun int64
	// Version counts from 1.
	Version uint64
	// Document is the set, unless that is Cleared.
	Document policy.Document
	// Cleared says that there is no set any more, and each node has the policies of its file.
	Cleared bool
	// By says who stored it, and At when, by Redis' clock.
	By string
	At time.Time
	// Sum is the SHA-256 of all of the set's fields, in hexadecimal.
	Sum string
	// Encoding is how the store has it, Size in how many bytes.
	Encoding string
	Size     int

	record policyRecord
}

// compare orders sets by age: by the count, then by the version.
func (s *PolicySet) compare(o *PolicySet) int {
	return cmp.Or(cmp.Compare(s.Begun, o.Begun), cmp.Compare(s.Version, o.Version))
}

// ErrPolicySet says that what was read is no set of policies, or not one that this version of weir can read.
var ErrPolicySet = errors.New("the cluster's policies can't be read")

// noSet is an ErrPolicySet with its reason.
func noSet(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrPolicySet, fmt.Errorf(format, args...))
}

// PolicyConflictError says that a set was not stored, as another one was there than it was made for.
type PolicyConflictError struct {
	// Want is the version that it was made for; 0: none.
	Want uint64
	// Have is the set that is there; nil: none, or none that can be read.
	Have *PolicySet
}

// Error says who was first, and the mend.
func (e *PolicyConflictError) Error() string {
	want := fmt.Sprintf("version %d", e.Want)
	if e.Want == 0 {
		want = "a cluster without a set"
	}
	if e.Have == nil {
		return fmt.Sprintf("conflict: the change was made for %s, and that is not there any more; nothing was stored (see weir policy list --cluster, and apply again)", want)
	}
	return fmt.Sprintf("conflict: the change was made for %s, and %s stored version %d at %s; nothing was stored (see weir policy get --cluster, and apply again, or with --expect %d if yours is to take its place)",
		want, e.Have.By, e.Have.Version, e.Have.At.UTC().Format(time.RFC3339), e.Have.Version)
}
