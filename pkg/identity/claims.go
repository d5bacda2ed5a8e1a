package identity

import (
	"errors"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // one that takes no field twice, and none in other letters
	"github.com/go-jose/go-jose/v4/jwt"
)

// claims are what is of use in a token.
type claims struct {
	user, role string
	until      time.Time // leeway included; zero: for ever
}

func (c claims) over(now time.Time) bool { return !c.until.IsZero() && now.After(c.until) }

// claims reads the payload of a token whose signature holds.
func (v *Verifier) claims(payload []byte, now time.Time) (claims, reason) {
	var standard jwt.Claims
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &standard) != nil || json.Unmarshal(payload, &all) != nil {
		return claims{}, rejectedClaims
	}
	want := jwt.Expected{Issuer: v.options.Issuer, Time: now}
	if v.options.Audience != "" {
		want.AnyAudience = jwt.Audience{v.options.Audience}
	}
	if err := standard.ValidateWithLeeway(want, v.options.Leeway); err != nil {
		return claims{}, reasonOf(err)
	}
	var c claims
	var ok bool
	if c.user, ok = textClaim(all, v.options.UserClaim); !ok || c.user == "" {
		return claims{}, rejectedClaims
	}
	if v.options.RoleClaim != "" {
		if c.role, ok = textClaim(all, v.options.RoleClaim); !ok {
			return claims{}, rejectedClaims
		}
	}
	if standard.Expiry != nil {
		c.until = standard.Expiry.Time().Add(v.options.Leeway)
	}
	return c, accepted
}

func reasonOf(err error) reason {
	switch {
	case errors.Is(err, jwt.ErrExpired):
		return rejectedExpired
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return rejectedNotYetValid
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return rejectedIssuer
	case errors.Is(err, jwt.ErrInvalidAudience):
		return rejectedAudience
	}
	return rejectedClaims
}

// textClaim is the text at a path, or the first of a list of texts there; a whole number is one. It is empty
// without the claim, and not ok if what is there is something else, or can't be part of a context.
func textClaim(all map[string]json.RawMessage, path string) (string, bool) {
	raw, ok := all[path] // before dots mean anything: names of claims may be URLs
	if !ok {
		outer, inner, nested := strings.Cut(path, ".")
		if raw, ok = all[outer]; !ok || !nested {
			return "", true
		}
		var within map[string]json.RawMessage
		if json.Unmarshal(raw, &within) != nil {
			return "", false
		}
		return textClaim(within, inner)
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		if len(list) == 0 {
			return "", true
		}
		raw = list[0]
	}
	text := string(raw)
	if strings.Trim(text, "0123456789") != "" && json.Unmarshal(raw, &text) != nil {
		return "", false
	}
	return text, checkText("", text) == nil
}
