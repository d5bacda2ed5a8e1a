package proxy

import (
	"maps"
	"net/http"
)

// exchange is what is known of a request while the upstream has it. It is kept in the request's context.
type exchange struct {
	own  http.Header  // of the answer, from before the upstream was asked
	body *watchedBody // nil if nobody watches it
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// takeOwn takes the headers out of an answer that the upstream is to give. They come back with [restoreOwn]:
// if they stayed, the upstream's would be added beside them, and an early hint of the upstream would carry
// them off: a ReverseProxy empties the headers after it.
func takeOwn(h http.Header) http.Header {
	if len(h) == 0 {
		return nil
	}
	own := maps.Clone(h)
	clear(h)
	return own
}

// additive are headers of which an answer has those of all who had a part in it.
var additive = map[string]bool{"Set-Cookie": true, "Vary": true, "Link": true, "Via": true, "Warning": true}

// restoreOwn puts the proxy's own headers into the answer of the upstream, in the place of those of the
// same name: the upstream does not know what was decided here.
func restoreOwn(answer *http.Response) error {
	for name, values := range exchangeOf(answer.Request).own {
		if additive[name] {
			values = append(answer.Header[name], values...)
		}
		answer.Header[name] = values
	}
	return nil
}
