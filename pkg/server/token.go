package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

const (
	minToken = 16 // bytes; fewer could be guessed
	maxToken = 4 << 10
)

// ErrToken says that a token file can't be used.
var ErrToken = errors.New("unusable admin token")

// Token is what a client has to show to change anything over TCP. It keeps a digest, so that the token
// itself can't get into a log. The zero value matches nothing.
type Token struct {
	digest [sha256.Size]byte
	set    bool
}

// ReadToken reads the token in a file that nobody but its owner and, for reading, its group may touch.
// White space around it does not count. It fails with [ErrToken] if the file can be read by others, or
// the token is too short.
func ReadToken(path string) (Token, error) {
	file, err := os.Open(path)
	if err != nil {
		return Token{}, fmt.Errorf("server.admin_token_file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Token{}, fmt.Errorf("server.admin_token_file: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o037 != 0 {
		return Token{}, fmt.Errorf("server.admin_token_file: %w: %s has mode %s (want a file of mode 0600 or 0640: chmod 0600 %[2]s)", ErrToken, path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return Token{}, fmt.Errorf("server.admin_token_file: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < minToken || len(text) > maxToken || bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Token{}, fmt.Errorf("server.admin_token_file: %w: want %d to %d printable characters without blanks in %s (openssl rand -hex 32 makes some)",
			ErrToken, minToken, maxToken, path)
	}
	return Token{digest: sha256.Sum256(text), set: true}, nil
}

// matches compares in a time that tells nothing about either token, their lengths included.
func (t Token) matches(given string) bool {
	digest := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(digest[:], t.digest[:]) == 1 && t.set
}

// bearer is the token of a request; empty if it has none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
