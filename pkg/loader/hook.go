package loader

// Hook is where in a packet's way a program sits.
type Hook string

// The hooks.
const (
	HookXDP       Hook = "xdp"        // what comes in, before the stack has seen it
	HookTCIngress Hook = "tc-ingress" // what comes in, where XDP can't go
	HookTCEgress  Hook = "tc-egress"  // what goes out
)

// Hooks returns every hook, in the order of enum hook in types.h.
func Hooks() []Hook { return []Hook{HookXDP, HookTCIngress, HookTCEgress} }

// number is the hook's value in enum hook.
func (h Hook) number() uint32 {
	for i, known := range Hooks() {
		if h == known {
			return uint32(i)
		}
	}
	return 0 // the zero Hook is XDP
}
