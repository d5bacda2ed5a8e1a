package limiter

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/maphash"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// A lease token carries what a result holds, sealed, so that the limiter need not remember it: a nonce,
// for each grant the policy (by a hash of its name), bucket, grant and hits and whether nodes share it, and a MAC over all of it.
const (
	nonceSize = 8
	grantSize = 7 * 8
	macSize   = 16
	// maxGrants bounds a token.
	maxGrants = 32
)

// LeaseToken is what a client that is not in this process can end its request with, by
// [Limiter.ReleaseToken]; empty if the result holds nothing. The result must not be released as well.
func (l *Limiter) LeaseToken(r *Result) string {
	all := r.lease.releasing()
	if len(all) == 0 || len(all) > maxGrants {
		return ""
	}
	token := make([]byte, nonceSize, nonceSize+len(all)*grantSize+macSize)
	_, _ = rand.Read(token) // never fails
	for _, h := range all {
		local := uint64(0)
		if h.local {
			local = 1
		}
		for _, word := range [...]uint64{maphash.String(l.hasher.seed, h.rule.policy.Name), h.key.Hash, h.grant, h.hits, local} {
			token = binary.BigEndian.AppendUint64(token, word)
		}
		token = append(token, h.key.ID[:]...)
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
	var few [maxGrants]held
	holds := few[:0]
	var longest time.Duration
	for at := nonceSize; at < len(text); at += grantSize {
		word := func(i int) uint64 { return binary.BigEndian.Uint64(text[at+8*i:]) }
		if r := set.byHash[word(0)]; r != nil && r.releases { // else the policy went, and what is in flight with it
			holds = append(holds, held{
				rule: r, key: Key{word(1), [16]byte(text[at+5*8:])}, grant: word(2), hits: word(3), local: word(4) != 0 || r.shared == nil,
			})
			longest = max(longest, r.policy.Window)
		}
	}
	if len(holds) > 0 && !l.firstUse(text[:nonceSize], now, 2*longest) {
		return &QueryError{"lease", "was released before", mend}
	}
	for i := range holds {
		l.giveBack(&holds[i], now)
	}
	return nil
}

// firstUse tells whether a nonce is used for the first time since what it released went by itself. A
// counter that may reach 1 says so: the table forgets it like all else.
func (l *Limiter) firstUse(nonce []byte, now Instant, since time.Duration) bool {
	hash := l.ownSpace.then(l.ownSpace.only(), string(nonce))
	c := bucket.Counting{N: 1, Most: 1, Expires: now.Ticks + ticks(since), EvictDebt: true}
	return l.table.Count(hash, now.Ticks, &c)&bucket.Admitted != 0
}
