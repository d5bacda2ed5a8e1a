package limiter

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/weir-limiter/weir/pkg/policy"
)

// nameRoom is for most names of buckets: longer ones ask for memory.
const nameRoom = 256

// name is what a bucket is called for all nodes, until it is digested: parts, each with its length before it, so that no
// two lists of parts are alike because their texts run into one another.
type name []byte

func (n name) then(text string) name {
	return append(binary.AppendUvarint(n, uint64(len(text))), text...)
}

func (n name) address(a netip.Addr, ipv4Prefix, ipv6Prefix uint8) name {
	bits := int(ipv6Prefix)
	if a.Is4() {
		bits = int(ipv4Prefix)
	}
	if p, err := a.WithZone("").Prefix(bits); err == nil {
		a = p.Addr()
	}
	b := a.As16()
	return n.then(string(b[:]))
}

// digest does not depend on a secret, which nodes would have to share: nobody finds two names with one digest.
func (n name) digest() (id [16]byte) {
	sum := sha256.Sum256(n)
	copy(id[:], sum[:])
	return id
}

// nameOf begins the name of a bucket. The version changes when names do.
func (r *Rule) nameOf(room []byte) name {
	return name(room).then("weir 1").then(string(r.policy.Scope)).then(r.policy.Name)
}

// identify names the bucket that bucketOf has found.
func (r *Rule) identify(v *view, endpoint int) [16]byte {
	var room [nameRoom]byte
	n, c := r.nameOf(room[:0]), v.request
	switch r.policy.Scope {
	case policy.ScopePerIP:
		if v.client.IsValid() {
			n = n.address(v.client, r.policy.IPv4Prefix, r.policy.IPv6Prefix)
		} else {
			n = n.then(v.key)
		}
	case policy.ScopePerUser:
		n = n.then(c.UserID)
	case policy.ScopePerAPIKey:
		n = n.then(c.APIKey)
	case policy.ScopePerEndpoint:
		if r.match.endpoints != nil {
			n = n.then(r.match.endpoints[endpoint].String())
		} else {
			n = n.then(v.endpoint)
		}
	case policy.ScopeCustom:
		for _, part := range r.template.Parts() {
			switch part.Field {
			case policy.FieldText:
			case policy.FieldIP:
				n = n.address(v.client, 32, 128)
			default:
				n = n.then(v.field(part))
			}
		}
	}
	return n.digest()
}

// identifyText names the bucket of a query's key.
func (r *Rule) identifyText(key string) [16]byte {
	var room [nameRoom]byte
	n := r.nameOf(room[:0])
	if r.own { // a limit that came with its query: another limit is another bucket
		n = binary.AppendUvarint(binary.AppendUvarint(n, r.policy.Limit), uint64(r.policy.Window))
	}
	return n.then(key).digest()
}
