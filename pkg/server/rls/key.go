package rls

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// whole is the key of a limit that has one bucket.
const whole = "*"

// bucketKey makes the parts that tell the buckets of a limit from each other into one key. Whatever the parts
// are the engine takes it: a stranger who sends an odd header must not get out of a limit by an error.
//
// One part is its own key, without a copy. Several have their lengths before them, so that no two lists are
// the same text. What is too long or odd, or looks like one of the others, is a digest.
func bucketKey(parts []string) string {
	switch {
	case len(parts) == 0:
		return whole
	case len(parts) == 1 && plain(parts[0]) && parts[0][0] != '*':
		return parts[0]
	case len(parts) == 1:
		return digest(parts)
	}
	var buf [256]byte
	key := append(buf[:0], '*')
	for _, p := range parts {
		if !plain(p) && p != "" || len(key)+len(p)+8 > limiter.MaxKey {
			return digest(parts)
		}
		key = strconv.AppendInt(key, int64(len(p)), 10)
		key = append(append(key, ':'), p...)
	}
	return string(key)
}

func digest(parts []string) string {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return "*sha256:" + hex.EncodeToString(h.Sum(nil))
}

// plain tells whether a text is fit for a key as it is.
func plain(s string) bool {
	return s != "" && len(s) <= limiter.MaxKey && !strings.ContainsFunc(s, control)
}

func control(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 }

// fit makes a text one that the engine takes, for the reason that bucketKey has: it is cut, and control
// characters are replaced. Texts that become the same share a bucket, which nobody gains by.
func fit(s string) string {
	if len(s) > limiter.MaxKey {
		s = strings.ToValidUTF8(s[:limiter.MaxKey], "")
	}
	if !strings.ContainsFunc(s, control) {
		return s
	}
	return strings.Map(func(c rune) rune {
		if control(c) {
			return '?'
		}
		return c
	}, s)
}
