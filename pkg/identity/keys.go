package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys   = 100
	minSecret = 32 // bytes: RFC 7518, section 3.2, for HS256
	// RSA keys of fewer bits can be broken, and those of more take too long.
	minRSA, maxRSA = 2048, 8192
)

var (
	hmacAlgorithms    = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
	rsaAlgorithms     = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	ed25519Algorithms = []jose.SignatureAlgorithm{jose.EdDSA}
	curveAlgorithms   = map[elliptic.Curve][]jose.SignatureAlgorithm{
		elliptic.P256(): {jose.ES256}, elliptic.P384(): {jose.ES384}, elliptic.P521(): {jose.ES512},
	}
)

// key is one that tokens may be signed with.
type key struct {
	id         string // empty: any
	public     any    // of HMAC, the secret
	algorithms []jose.SignatureAlgorithm
}

// signs tells whether the key may have signed a token with this header. The algorithm has to be one of the key's:
// what the token says chooses among them, and never makes a secret of a public key.
func (k *key) signs(alg jose.SignatureAlgorithm, id string) bool {
	return slices.Contains(k.algorithms, alg) && (k.id == id || k.id == "" || id == "")
}

// keySet is what one reading of the keys gave. The tokens that it verified are forgotten with it: a key
// that is no longer there vouches for nothing.
type keySet struct {
	keys       []key
	algorithms []jose.SignatureAlgorithm // of any of the keys
	digest     [sha256.Size]byte         // of what they were read from
	known      cache
}

// newKeySet keeps the keys that are of use with the algorithms that are allowed.
func newKeySet(keys []key, allowed map[jose.SignatureAlgorithm]bool, digest [sha256.Size]byte) (*keySet, error) {
	set := &keySet{digest: digest}
	for _, k := range keys {
		if allowed != nil {
			k.algorithms = slices.DeleteFunc(slices.Clone(k.algorithms), func(a jose.SignatureAlgorithm) bool { return !allowed[a] })
		}
		if len(k.algorithms) == 0 {
			continue
		}
		set.keys = append(set.keys, k)
		set.algorithms = append(set.algorithms, k.algorithms...)
	}
	if len(set.keys) == 0 {
		return nil, errors.New("there is no key that a token may be signed with (want RSA of 2048 bits or more, EC or Ed25519, and an algorithm that fits)")
	}
	slices.Sort(set.algorithms)
	set.algorithms = slices.Compact(set.algorithms)
	return set, nil
}

func allowedAlgorithms(names []string) (map[jose.SignatureAlgorithm]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	known := slices.Concat(hmacAlgorithms, rsaAlgorithms, ed25519Algorithms, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512})
	allowed := make(map[jose.SignatureAlgorithm]bool, len(names))
	for _, name := range names {
		alg := jose.SignatureAlgorithm(name)
		if !slices.Contains(known, alg) {
			return nil, fmt.Errorf("unknown algorithm %.20q (use some of %s)", name, joined(known))
		}
		allowed[alg] = true
	}
	return allowed, nil
}

func joined(algorithms []jose.SignatureAlgorithm) string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// publicKey is a key that somebody published. The kind of key says which algorithms it is for.
func publicKey(public any) (key, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSA || bits > maxRSA {
			return key{}, fmt.Errorf("an RSA key of %d bits (want %d to %d)", bits, minRSA, maxRSA)
		}
		return key{public: public, algorithms: rsaAlgorithms}, nil
	case *ecdsa.PublicKey:
		if algorithms := curveAlgorithms[public.Curve]; algorithms != nil {
			return key{public: public, algorithms: algorithms}, nil
		}
	case ed25519.PublicKey:
		return key{public: public, algorithms: ed25519Algorithms}, nil
	}
	return key{}, fmt.Errorf("a key of type %T (want RSA, EC on P-256, P-384 or P-521, or Ed25519)", public)
}

// parseJWKS reads a JWK set (RFC 7517, section 5). As that says, keys that can't be used are left out:
// symmetric ones too, which whoever can read the set could sign with.
func parseJWKS(text []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("no JWK set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("a JWK set of %d keys (at most %d)", len(set.Keys), maxKeys)
	}
	var keys []key
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(raw) != nil || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		k, err := publicKey(jwk.Public().Key)
		if err != nil {
			continue
		}
		if alg := jose.SignatureAlgorithm(jwk.Algorithm); alg != "" {
			if !slices.Contains(k.algorithms, alg) {
				continue
			}
			k.algorithms = []jose.SignatureAlgorithm{alg}
		}
		k.id = jwk.KeyID
		keys = append(keys, k)
	}
	return keys, nil
}

// parsePEM reads one public key, or that of a certificate.
func parsePEM(text []byte) ([]key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block (want PUBLIC KEY or CERTIFICATE)")
	}
	public, err := pemKey(block)
	if err != nil {
		return nil, err
	}
	k, err := publicKey(public)
	return []key{k}, err
}

func pemKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, fmt.Errorf("a PEM block of %.40q (want PUBLIC KEY or CERTIFICATE: openssl pkey -pubout makes the former)", block.Type)
}

// parseSecret takes the bytes as they are, but for white space around them. What looks like a key pair's part
// is a mistake that would let everybody sign who has the public one.
func parseSecret(text []byte) ([]key, error) {
	secret := bytes.TrimSpace(text)
	if len(secret) < minSecret {
		return nil, fmt.Errorf("a secret of %d bytes (want at least %d: openssl rand -hex 32 makes some)", len(secret), minSecret)
	}
	if bytes.Contains(secret, []byte("-----BEGIN ")) || secret[0] == '{' {
		return nil, errors.New("a key in PEM or JSON, and no secret (a public key goes into a key file or a JWK set file)")
	}
	return []key{{public: secret, algorithms: hmacAlgorithms}}, nil
}
