package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/pkg/policy"
)

func (j *JWT) fields() []field {
	return []field{
		{name: "jwks_url", to: keyURL(&j.JWKSURL)},
		{name: "jwks_file", to: nonEmpty(&j.JWKSFile)},
		{name: "key_file", to: nonEmpty(&j.KeyFile)},
		{name: "secret_file", to: nonEmpty(&j.SecretFile)},
		{name: "algorithms", to: list(&j.Algorithms, func(a *string) into { return enum(a, JWTAlgorithms()) })},
		{name: "issuer", to: nonEmpty(&j.Issuer)},
		{name: "audience", to: nonEmpty(&j.Audience)},
		{name: "user_claim", to: nonEmpty(&j.UserClaim)},
		{name: "role_claim", to: text(&j.RoleClaim)},
		{name: "header", to: j.headerName()},
		{name: "leeway", to: span(&j.Leeway)},
	}
}

func (j *JWT) into() into {
	*j = JWT{UserClaim: "sub", RoleClaim: "role", Header: "Authorization", Leeway: 30 * time.Second}
	return func(d *decoder, c cursor) {
		mapping(j.fields()...)(d, c)
		j.checkSource(d, c)
		j.checkAlgorithms(d, c)
		if leeway := join(c.path, "leeway"); j.Leeway > MaxJWTLeeway && !d.unreadable(leeway) {
			d.failAt(d.position(leeway), leeway, fmt.Sprintf("%s is longer than clocks differ, and keeps tokens alive that are over", policy.FormatDuration(j.Leeway)),
				"write at most 5m")
		}
	}
}

// checkSource wants one place to have the keys from: with two, nobody could
// tell which of them a token was believed for.
func (j *JWT) checkSource(d *decoder, c cursor) {
	var named []string
	for _, name := range []string{"jwks_url", "jwks_file", "key_file", "secret_file"} {
		if d.has(join(c.path, name)) {
			named = append(named, name)
		}
	}
	switch {
	case len(named) == 0 && !d.unreadable(c.path):
		d.fail(c, "says nothing of the keys", "add one of jwks_url, jwks_file, key_file, secret_file, or remove jwt")
	case len(named) > 1:
		last := join(c.path, named[len(named)-1])
		d.failAt(d.position(last), last, fmt.Sprintf("the keys are in %s already", strings.Join(named[:len(named)-1], " and ")), "keep one of them")
	}
}

// checkAlgorithms refuses what the keys can't verify. A public key that is
// taken for the secret of HS256 lets everybody sign.
func (j *JWT) checkAlgorithms(d *decoder, c cursor) {
	secret := j.SecretFile != ""
	if !secret && j.JWKSURL == "" && j.JWKSFile == "" && j.KeyFile == "" {
		return // a fault already
	}
	for i, a := range j.Algorithms {
		path := fmt.Sprintf("%s[%d]", join(c.path, "algorithms"), i)
		switch hmac := strings.HasPrefix(a, "HS"); {
		case d.unreadable(path):
		case hmac && !secret:
			d.failAt(d.position(path), path, a+" signs with a secret, and the keys here are public", "remove it, or name a secret_file")
		case !hmac && secret:
			d.failAt(d.position(path), path, a+" signs with a private key, and secret_file has none", "remove it, or name a key_file, jwks_file or jwks_url")
		}
	}
}

// headerName reads the header that has the token.
func (j *JWT) headerName() into {
	return func(d *decoder, c cursor) {
		headerName(&j.Header)(d, c)
		if j.Header == "" && !d.unreadable(c.path) {
			d.fail(c, "must not be empty", "name a header, or remove the line for Authorization")
		}
	}
}

// keyURL reads where keys are fetched. Who could change them on the way could
// be anybody.
func keyURL(to *string) into {
	return scalar(to, "a URL", func(n *yaml.Node) (string, *complaint) {
		u, bad := webURL(n, "write it such as https://login.example.org/.well-known/jwks.json")
		switch {
		case bad != nil:
			return "", bad
		case u.Fragment != "":
			return "", &complaint{policy.Quote(n.Value) + " has a fragment", "cut it off"}
		case u.Scheme == "http" && !loopback(u):
			return "", &complaint{policy.Quote(n.Value) + " is not protected on its way here", "use https, or a jwks_file"}
		}
		return n.Value, nil
	})
}

func loopback(u *url.URL) bool {
	address, err := netip.ParseAddr(u.Hostname())
	return err == nil && address.IsLoopback() || u.Hostname() == "localhost"
}
