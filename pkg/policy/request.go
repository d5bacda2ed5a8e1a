package policy

import "net/netip"

// RequestContext is what is known of a request when layer 7 asks which policies
// apply to it. Every field may be empty: what is not known matches no policy
// that asks for it, and has no bucket under a policy whose scope it is.
type RequestContext struct {
	// ClientIP is the address of the client, IPv4 as such and without zone; the
	// zero Addr if it is not known.
	ClientIP netip.Addr
	// Method is the HTTP method in capitals.
	Method string
	// Endpoint is the path of the request. See [CleanEndpoint] for how it is read.
	Endpoint string
	// UserID and UserRole are who was authenticated.
	UserID, UserRole string
	// APIKey stands for the API key of the request. Surfaces put a digest of the
	// key here and never the key itself.
	APIKey string
	// RequestID is what logs call the request. It has no part in any decision.
	RequestID string
	// Metadata are further names and values. It is read only.
	Metadata map[string]string
}
