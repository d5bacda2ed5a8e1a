package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"
)

const (
	maxKeyText   = 1 << 20 // bytes of a set of keys; real ones have a few thousand
	fetchTimeout = 10 * time.Second
)

// source is where keys come from.
type source struct {
	name    string // for errors
	local   bool   // a file: it is there when the verifier is made
	read    func(context.Context) ([]byte, error)
	parse   func([]byte) ([]key, error)
	refresh time.Duration
}

func newSource(o VerifierOptions) (source, error) {
	public := func(path string) func(context.Context) ([]byte, error) {
		return func(context.Context) ([]byte, error) { return readFile(path, 0o777) }
	}
	secret := func(context.Context) ([]byte, error) { return readFile(o.SecretFile, 0o640) }
	var given []source
	for _, s := range []source{
		{"key set " + o.JWKSFile, true, public(o.JWKSFile), parseJWKS, 5 * time.Second},
		{"key " + o.KeyFile, true, public(o.KeyFile), parsePEM, 5 * time.Second},
		{"secret " + o.SecretFile, true, secret, parseSecret, 5 * time.Second},
	} {
		if s.name[len(s.name)-1] != ' ' {
			given = append(given, s)
		}
	}
	if o.JWKSURL != "" {
		s, err := urlSource(o.JWKSURL, o.HTTPClient)
		if err != nil {
			return source{}, err
		}
		given = append(given, s)
	}
	if len(given) != 1 {
		return source{}, fmt.Errorf("%d sources of keys (want one of a URL or a file of a key set, a key file, a secret file)", len(given))
	}
	return given[0], nil
}

// readFile reads a file of keys. allowed are the bits that its mode may have.
func readFile(path string, allowed os.FileMode) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&^allowed != 0 {
		return nil, fmt.Errorf("%s has mode %s (want a file, and a secret in one of mode 0600 or 0640: chmod 0600 %[1]s)", path, mode)
	}
	return readBounded(file)
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKeyText+1))
	if err == nil && len(text) > maxKeyText {
		err = fmt.Errorf("more than %d bytes", maxKeyText)
	}
	return text, err
}

var (
	errPlainHTTP = errors.New("keys over plain http, which anybody on the way can replace (use https, or have a file written and name that)")
	errRedirects = errors.New("redirected too often")
)

func urlSource(raw string, client *http.Client) (source, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return source{}, errors.New("the URL of the key set is none (write one such as https://issuer.example/.well-known/jwks.json)")
	}
	if err := checkScheme(u); err != nil {
		return source{}, err
	}
	own := http.Client{}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 5 {
			return errRedirects
		}
		return checkScheme(req.URL)
	}
	return source{
		name:    "key set of " + u.Host,
		read:    func(ctx context.Context) ([]byte, error) { return fetch(ctx, &own, raw) },
		parse:   parseJWKS,
		refresh: 10 * time.Minute,
	}, nil
}

func checkScheme(u *url.URL) error {
	switch {
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errPlainHTTP
	}
	return fmt.Errorf("a URL of scheme %.20q (want https)", u.Scheme)
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func fetch(ctx context.Context, client *http.Client, raw string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d", resp.StatusCode)
	}
	return readBounded(resp.Body)
}

// withoutURL takes the URL out of an error: there may be a password in its query.
func withoutURL(err error) error {
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// Run keeps the keys up to date until ctx ends. A set that can't be had, or has no usable key, leaves the
// last good one in force. It returns nil, and can be called again once it has.
func (v *Verifier) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	if v.source.local {
		timer.Reset(v.options.Refresh) // NewVerifier has read it just now
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-v.wanted:
			if v.source.local { // it is looked at often enough
				continue
			}
		}
		wait := v.options.Refresh
		if v.refresh(ctx) != nil {
			wait = min(wait, v.options.MinRefresh)
		}
		// Whoever asks for keys in the meantime is heard after the pause.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(wait, v.options.MinRefresh)):
		}
		timer.Reset(max(0, wait-v.options.MinRefresh))
	}
}

// refresh reads the keys, and puts them in force if they are others.
func (v *Verifier) refresh(ctx context.Context) error {
	set, err := v.readKeys(ctx)
	if err != nil && ctx.Err() != nil {
		return err // weir is ending
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.failure
	if v.failure = err; err != nil {
		if before == nil { // once, until it is mended
			v.options.Log.Warn("keys of tokens can't be had; the last good ones stay, and no token is believed without any",
				"source", v.source.name, "have_keys", v.keys.Load() != nil, "error", err)
		}
		return err
	}
	if old := v.keys.Load(); old == nil || old.digest != set.digest {
		v.keys.Store(set)
		v.options.Log.Info("keys of tokens are in force", "source", v.source.name, "keys", len(set.keys))
	} else if before != nil {
		v.options.Log.Info("keys of tokens can be had again", "source", v.source.name)
	}
	return nil
}

func (v *Verifier) readKeys(ctx context.Context) (*keySet, error) {
	text, err := v.source.read(ctx)
	if err != nil {
		return nil, v.sourceError(err)
	}
	keys, err := v.source.parse(text)
	if err != nil {
		return nil, v.sourceError(err)
	}
	set, err := newKeySet(keys, v.allowed, sha256.Sum256(text))
	if err != nil {
		return nil, v.sourceError(err)
	}
	return set, nil
}

func (v *Verifier) sourceError(err error) error {
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%s: no answer in %s: %w", v.source.name, fetchTimeout, err)
	}
	return fmt.Errorf("%s: %w", v.source.name, err)
}
