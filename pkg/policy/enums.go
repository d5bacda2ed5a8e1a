package policy

// Scope says what gets a bucket of its own.
type Scope string

// The scopes.
const (
	ScopePerIP       Scope = "per_ip"       // a source address, or its prefix
	ScopePerUser     Scope = "per_user"     // an authenticated user
	ScopePerAPIKey   Scope = "per_api_key"  // an API key
	ScopePerEndpoint Scope = "per_endpoint" // a request path; in the kernel a protocol and port
	ScopeGlobal      Scope = "global"       // one bucket for everything
	ScopeCustom      Scope = "custom"       // whatever Policy.Key spells
)

// Scopes returns every scope, in the order in which messages list them.
func Scopes() []Scope {
	return []Scope{ScopePerIP, ScopePerUser, ScopePerAPIKey, ScopePerEndpoint, ScopeGlobal, ScopeCustom}
}

// inKernel reports whether the kernel knows the scope.
func (s Scope) inKernel() bool {
	return s == ScopePerIP || s == ScopePerEndpoint || s == ScopeGlobal
}

// Unit says what one token pays for.
type Unit string

// The units.
const (
	UnitRequests Unit = "requests" // a request; a packet in the kernel
	UnitBytes    Unit = "bytes"    // a byte of a packet, link-layer header included
)

// Units returns every unit.
func Units() []Unit { return []Unit{UnitRequests, UnitBytes} }

// Algorithm turns a limit into decisions.
type Algorithm string

// The algorithms.
const (
	AlgorithmTokenBucket   Algorithm = "token_bucket"
	AlgorithmSlidingWindow Algorithm = "sliding_window"
	AlgorithmFixedWindow   Algorithm = "fixed_window"
	AlgorithmLeakyBucket   Algorithm = "leaky_bucket" // paces: says how long to wait
	AlgorithmConcurrency   Algorithm = "concurrency"  // limits what is in flight; window is a lease's life
)

// Algorithms returns every algorithm.
func Algorithms() []Algorithm {
	return []Algorithm{AlgorithmTokenBucket, AlgorithmSlidingWindow, AlgorithmFixedWindow, AlgorithmLeakyBucket, AlgorithmConcurrency}
}

// Layer says who enforces a policy.
type Layer string

// The layers.
const (
	LayerKernel Layer = "kernel" // XDP or TC, per packet
	LayerL7     Layer = "l7"     // the daemon, per request
)

// Layers returns every layer.
func Layers() []Layer { return []Layer{LayerKernel, LayerL7} }

// Mode says what a verdict does to the traffic.
type Mode string

// The modes.
const (
	ModeEnforce Mode = "enforce" // what is over the limit is dropped
	ModeShadow  Mode = "shadow"  // it is counted as shadow-drop and passes
	ModeOff     Mode = "off"     // the policy is kept but not evaluated
)

// Modes returns every mode.
func Modes() []Mode { return []Mode{ModeEnforce, ModeShadow, ModeOff} }

// Consistency says how nodes share a count.
type Consistency string

// The consistencies.
const (
	ConsistencyStrict     Consistency = "strict"     // one store round trip per decision
	ConsistencyLeased     Consistency = "leased"     // tokens debited before they are used
	ConsistencyReconciled Consistency = "reconciled" // counts merged after the fact
	ConsistencyLocal      Consistency = "local"      // every node for itself
)

// Consistencies returns every consistency.
func Consistencies() []Consistency {
	return []Consistency{ConsistencyStrict, ConsistencyLeased, ConsistencyReconciled, ConsistencyLocal}
}

// StoreFailure says what holds while the shared store is away.
type StoreFailure string

// The answers to a store failure.
const (
	StoreFailureLocal  StoreFailure = "local"  // the full limit on this node
	StoreFailureShare  StoreFailure = "share"  // the limit divided by the last known nodes
	StoreFailureOpen   StoreFailure = "open"   // everything passes
	StoreFailureClosed StoreFailure = "closed" // nothing passes
)

// StoreFailures returns every answer to a store failure.
func StoreFailures() []StoreFailure {
	return []StoreFailure{StoreFailureLocal, StoreFailureShare, StoreFailureOpen, StoreFailureClosed}
}

// Pressure is the fate of a source for which the bucket table has no room.
type Pressure string

// The fates under pressure.
const (
	PressurePass Pressure = "pass"
	PressureDrop Pressure = "drop"
)

// Pressures returns every fate under pressure.
func Pressures() []Pressure { return []Pressure{PressurePass, PressureDrop} }

// Fragment is the fate of a packet whose port cannot be read, under a policy
// that asks for the port: only the first fragment of a datagram has it.
type Fragment string

// The fates of what has no readable port.
const (
	FragmentPass Fragment = "pass" // the policy does not apply to it
	FragmentDrop Fragment = "drop" // if all else matches, it is dropped
)

// Fragments returns every fate of what has no readable port.
func Fragments() []Fragment { return []Fragment{FragmentPass, FragmentDrop} }

// Action is what becomes of a packet that is over the limit.
type Action string

// The actions.
const (
	ActionDrop Action = "drop"
	ActionPace Action = "pace" // it leaves later, when its tokens are there; egress only
)

// Actions returns every action.
func Actions() []Action { return []Action{ActionDrop, ActionPace} }

// Direction is the way that a packet takes through an interface, seen from the
// host.
type Direction string

// The directions.
const (
	DirectionIngress Direction = "ingress" // it comes in
	DirectionEgress  Direction = "egress"  // it goes out
	DirectionBoth    Direction = ""        // either; each has buckets of its own
)

// Directions returns the directions that a policy can be narrowed to.
func Directions() []Direction { return []Direction{DirectionIngress, DirectionEgress} }

// Verdict is the outcome of a decision. Its text is also the value of the
// metric label "verdict".
type Verdict string

// The verdicts.
const (
	VerdictPass       Verdict = "pass"
	VerdictDrop       Verdict = "drop"
	VerdictShadowDrop Verdict = "shadow-drop" // would have been a drop, in mode enforce
)

// Verdicts returns every verdict.
func Verdicts() []Verdict { return []Verdict{VerdictPass, VerdictDrop, VerdictShadowDrop} }
