package loader

import (
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"
)

// lpm is a key of the tries: a prefix, with the address as on the wire.
type lpm interface{ prefix() netip.Prefix }

func (k xdpLpmIpv4) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4(k.Address), int(k.PrefixLength))
}

func (k xdpLpmIpv6) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(k.Address), int(k.PrefixLength))
}

func lpmKey(p netip.Prefix) lpm {
	if p.Addr().Is4() {
		return xdpLpmIpv4{PrefixLength: uint32(p.Bits()), Address: p.Addr().As4()}
	}
	return xdpLpmIpv6{PrefixLength: uint32(p.Bits()), Address: p.Addr().As16()}
}

// readTrie reads a whole trie, with a system call for a thousand entries.
func readTrie[K lpm, V any](m *ebpf.Map) (map[netip.Prefix]V, error) {
	const chunk = 1024
	keys, values := make([]K, chunk), make([]V, chunk)
	all := map[netip.Prefix]V{}
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, explain(err)
		}
		for i := range n {
			all[keys[i].prefix()] = values[i]
		}
		if err != nil {
			return all, nil
		}
	}
}
