package limiter

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/maphash"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// A lease token carries what a result holds, sealed, so that the limiter need not remember it: a nonce,
// for each grant the policy (by a hash of its name), bucket, grant and hits, and a MAC over all of it.
const (
	nonceSize = 8
	grantSize = 4 * 8
	macSize   = 16
	// maxGrants bounds a token.
	maxGrants = 32
)

// LeaseToken is what a client that is not in this process can end its request with, by
// [Limiter.ReleaseToken]; empty if the result holds nothing. The result must not be released as well.
func (l *Limiter) LeaseToken(r *Result) string {
	all := r.lease.all()
	if len(all) == 0 || len(all) > maxGrants {
		return ""
	}
	token := make([]byte, nonceSize, nonceSize+len(all)*grantSize+macSize)
	_, _ = rand.Read(token) // never fails
	for _, h := range all {
		for _, word := range [...]uint64{maphash.String(l.hasher.seed, h.rule.policy.Name), h.hash, h.grant, h.hits} {
			token = binary.BigEndian.AppendUint64(token, word)
		}
	}
	return base64.RawURLEncoding.EncodeToString(append(token, l.seal(token)...))
}

func (l *Limiter) seal(text []byte) []byte {
	mac := hmac.New(sha256.New, l.sealKey[:])
	mac.Write(text)
	return mac.Sum(nil)[:macSize]
}

// ReleaseToken releases what a token of [Limiter.LeaseToken] stands for. It fails with a [*QueryError] if
// the token is none of this limiter's, or was used before.
func (l *Limiter) ReleaseToken(token string) error {
	const mend = "send back what the check answered, once"
	raw, err := base64.RawURLEncoding.DecodeString(token)
	grants := len(raw) - nonceSize - macSize
	if err != nil || grants <= 0 || grants%grantSize != 0 || grants/grantSize > maxGrants {
		return &QueryError{"lease", "is no lease", mend}
	}
	text, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	if !hmac.Equal(mac, l.seal(text)) {
		return &QueryError{"lease", "is not a lease of this daemon since it was started", mend}
	}
	set, now := l.set.Load(), l.now()
	// A counter that may reach 1 says whether the token was used: the table forgets it like all else.
	used := l.ownSpace.then(l.ownSpace.only(), string(text[:nonceSize]))
	for at := nonceSize; at < len(text); at += grantSize {
		word := func(i int) uint64 { return binary.BigEndian.Uint64(text[at+8*i:]) }
		r := set.byHash[word(0)]
		if r == nil || !r.releases {
			continue // the policy went, and what is in flight with it
		}
		if at == nonceSize && !l.firstUse(used, r, now) {
			return &QueryError{"lease", "was released before", mend}
		}
		r.algorithm.Refund(Bucket{l.table, word(1)}, now, Outcome{Admitted: true, Grant: word(2)}, word(3))
	}
	return nil
}

func (l *Limiter) firstUse(hash uint64, r *Rule, now Instant) bool {
	expires := now.Ticks + ticks(2*r.policy.Window) // then what it released has gone by itself
	_, flags := l.table.Count(hash, now.Ticks, expires, 1, 1, true)
	return flags&bucket.Admitted != 0
}
