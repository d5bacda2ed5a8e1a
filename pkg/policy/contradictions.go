package policy

import "fmt"

// contradictions returns the fields that are valid by themselves but mean
// nothing beside the others, whatever weir will learn to enforce.
func (p Policy) contradictions() []Fault {
	var fs faults
	p.checkKey(&fs)
	p.checkKernel(&fs)
	p.checkL7(&fs)
	p.checkPort(&fs)
	p.checkPace(&fs)
	p.checkStore(&fs)
	for _, f := range p.Match.fields() {
		switch {
		case !f.used:
		case p.Layer == LayerKernel && !f.kernel:
			fs.add("match."+f.name, fmt.Sprintf("layer kernel cannot see %s", f.name),
				fmt.Sprintf(`remove %s or set "layer: l7"`, f.name), "layer")
		case p.Layer == LayerL7 && !f.l7:
			fs.add("match."+f.name, fmt.Sprintf("layer l7 cannot see %s", f.name),
				fmt.Sprintf(`remove %s or set "layer: kernel"`, f.name), "layer", "scope")
		}
	}
	if p.NewSources != nil && (p.Layer != LayerKernel || p.Scope != ScopePerIP) {
		fs.add("new_sources", "only a policy of layer kernel and scope per_ip has new sources", "remove new_sources", "layer", "scope")
	}
	if p.Scope != ScopePerIP {
		const problem, mend = "only scope per_ip has a bucket for each source prefix", `remove it or set "scope: per_ip"`
		if p.IPv4Prefix != DefaultIPv4Prefix {
			fs.add("ipv4_prefix", problem, mend, "scope")
		}
		if p.IPv6Prefix != DefaultIPv6Prefix {
			fs.add("ipv6_prefix", problem, mend, "scope")
		}
	}
	return fs
}

func (p Policy) checkKey(fs *faults) {
	switch {
	case p.Scope == ScopeCustom && p.Key == "":
		fs.add("key", "scope custom needs a key", `set key to a template such as "{user}:{endpoint}"`, "scope")
	case p.Scope != ScopeCustom && p.Key != "":
		fs.add("key", fmt.Sprintf("scope %s makes its own key", p.Scope), `remove key or set "scope: custom"`, "scope")
	}
}

func (p Policy) checkKernel(fs *faults) {
	if p.Layer != LayerKernel {
		return
	}
	if !p.Scope.inKernel() {
		fs.add("scope", fmt.Sprintf("layer kernel cannot see scope %s", p.Scope), `set "scope: per_ip" or "layer: l7"`, "layer")
	}
	if p.Algorithm != AlgorithmTokenBucket {
		fs.add("algorithm", fmt.Sprintf("layer kernel has no %s", p.Algorithm), `set "algorithm: token_bucket"`, "layer")
	}
	if len(p.Headers) > 0 {
		fs.add("headers", "layer kernel answers nobody, so there is nothing to put headers on", "remove headers", "layer")
	}
}

// checkPort judges what concerns the port of a packet.
func (p Policy) checkPort(fs *faults) {
	if number, ok := p.Match.ProtocolNumber(); ok && len(p.Match.Ports) > 0 && !HasPorts(number) {
		fs.add("match.ports", fmt.Sprintf("protocol %s has no ports", p.Match.Protocol),
			"remove ports, or the protocol, or set it to one that has ports: "+list(portProtocols()), "match.protocol")
	}
	switch {
	case p.OnFragment != FragmentDrop:
	case p.Layer == LayerL7:
		fs.add("on_fragment", "layer l7 sees requests, not fragments", "remove on_fragment", "layer", "scope")
	case !p.NeedsPort():
		fs.add("on_fragment", "only a policy with match.ports or scope per_endpoint misses the port of a fragment",
			"remove on_fragment", "match.ports", "scope", "layer")
	}
}

func (p Policy) checkPace(fs *faults) {
	if p.Action != ActionPace {
		return
	}
	switch {
	case p.Layer != LayerKernel:
		fs.add("action", "only layer kernel can pace", `set "action: drop"; requests are delayed by "algorithm: leaky_bucket"`, "layer", "scope")
	case p.Match.Direction != DirectionEgress:
		fs.add("action", "only packets that go out can be paced", `set "match: {direction: egress}" or "action: drop"`, "match.direction")
	}
	if p.NewSources != nil {
		fs.add("new_sources", "action pace delays packets, and those of a stranger could only be dropped",
			`remove new_sources or set "action: drop"`, "action")
	}
}
