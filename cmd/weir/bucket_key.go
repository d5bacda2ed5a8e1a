package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// bucketKey is a key as somebody wrote it, understood.
type bucketKey struct {
	loader.Key
	text   string // as it is shown
	bucket string // whose bucket it is: a prefix, an endpoint or allBucket
}

// allBucket is the key of the one bucket of a global policy.
const allBucket = "all"

// String says whose bucket it is, where that is more than the key.
func (k bucketKey) String() string {
	if k.bucket == k.text || k.bucket == k.text+"/32" || k.bucket == k.text+"/128" {
		return k.text
	}
	return fmt.Sprintf("%s (for %s)", k.bucket, k.text)
}

// parseBucketKey understands a key by the scope of the policy that it is for.
func parseBucketKey(p policy.Policy, text string) (bucketKey, error) {
	switch p.Scope {
	case policy.ScopePerEndpoint:
		return parseEndpoint(p, text)
	case policy.ScopeGlobal:
		if text != "-" && text != allBucket {
			return bucketKey{}, usagef("%q is not a key: policy %s is global, and has one bucket: want all, or -", text, p.Name)
		}
		return bucketKey{text: allBucket, bucket: allBucket}, nil
	}
	source, err := parseSource(text)
	if err != nil {
		return bucketKey{}, err
	}
	return bucketKey{
		Key: loader.Key{Source: source}, text: source.String(), bucket: bucketPrefix(p, source).String(),
	}, nil
}

func parseSource(key string) (netip.Addr, error) {
	source, err := netip.ParseAddr(key)
	switch {
	case err != nil:
		return source, usagef("%q is not a key: want an IPv4 or IPv6 address, such as 203.0.113.7", key)
	case source.Zone() != "":
		return source, usagef("%q has a zone, which no packet carries: want %s", key, source.WithZone(""))
	}
	return source.Unmap(), nil
}

// bucketPrefix is the network whose sources share the bucket of one of them.
func bucketPrefix(p policy.Policy, source netip.Addr) netip.Prefix {
	bits := p.IPv6Prefix
	if source.Is4() {
		bits = p.IPv4Prefix
	}
	return netip.PrefixFrom(source, int(bits)).Masked()
}

// parseEndpoint reads "udp/53", "17/53" or, of a protocol without ports, "icmp".
func parseEndpoint(p policy.Policy, text string) (bucketKey, error) {
	name, port, hasPort := strings.Cut(text, "/")
	number, known := policy.ProtocolNumber(name)
	if !known {
		return bucketKey{}, usagef("%q is not a key: policy %s has a bucket for each protocol and local port: want udp/53, for example, with one of %s, or a number up to %d",
			text, p.Name, strings.Join(policy.Protocols(), ", "), policy.MaxProtocol)
	}
	k := bucketKey{Key: loader.Key{Protocol: number}, text: policy.ProtocolName(number)}
	switch {
	case policy.HasPorts(number) && !hasPort:
		return k, usagef("%q is not a key: protocol %s has ports: want %[2]s/53, for example", text, k.text)
	case !policy.HasPorts(number) && hasPort:
		return k, usagef("%q is not a key: protocol %s has no ports: want %[2]s", text, k.text)
	case hasPort:
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return k, usagef("%q is not a key: want a port from 0 to 65535 after the slash", text)
		}
		k.Port = uint16(n)
		k.text += fmt.Sprintf("/%d", n)
	}
	k.bucket = k.text
	return k, nil
}
