package policy

// Default prefix lengths in bits: an IPv4 host, and the IPv6 network that one
// customer usually gets, since within it addresses cost nothing.
const (
	DefaultIPv4Prefix = 32
	DefaultIPv6Prefix = 64
)

// WithDefaults returns the policy with every field that is still zero set to
// its default. It cannot tell a zero that somebody chose from one that nobody
// set, so a reader of files applies explicit zeroes afterwards. Consistency and
// OnStoreFailure are for [Policy.WithStore].
func (p Policy) WithDefaults() Policy {
	if p.Burst == 0 {
		p.Burst = p.Limit
	}
	if p.Priority == 0 {
		p.Priority = p.Scope.priority()
	}
	if p.Layer == "" {
		p.Layer = p.defaultLayer()
	}
	if p.IPv4Prefix == 0 {
		p.IPv4Prefix = DefaultIPv4Prefix
	}
	if p.IPv6Prefix == 0 {
		p.IPv6Prefix = DefaultIPv6Prefix
	}
	setDefault(&p.Unit, UnitRequests)
	setDefault(&p.Algorithm, AlgorithmTokenBucket)
	setDefault(&p.Mode, ModeEnforce)
	setDefault(&p.OnPressure, PressurePass)
	setDefault(&p.OnFragment, FragmentPass)
	setDefault(&p.Action, ActionDrop)
	return p
}

// priority puts the narrower scope first, so that a key's own limit speaks
// before the limit of everybody.
func (s Scope) priority() int {
	switch s {
	case ScopePerAPIKey:
		return 3
	case ScopePerUser:
		return 2
	case ScopePerEndpoint:
		return 1
	default:
		return 0
	}
}

func (p Policy) defaultLayer() Layer {
	if p.Scope == ScopePerIP && !p.Match.NeedsL7() {
		return LayerKernel
	}
	return LayerL7
}

func setDefault[T ~string](field *T, value T) {
	if *field == "" {
		*field = value
	}
}
