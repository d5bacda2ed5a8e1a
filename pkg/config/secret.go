package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxSecret is the longest password, in bytes.
const maxSecret = 4 << 10

// ErrSecret says that the file of a password can't be used.
var ErrSecret = errors.New("unusable password file")

// ReadSecret reads the password in a file that nobody but its owner and, for
// reading, its group may touch; field is what names the file, such as
// "redis.password_file". The ends of lines behind the password do not count. It
// fails with [ErrSecret] if others can read the file, or it has no password.
func ReadSecret(field, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o037 != 0 {
		return "", fmt.Errorf("%s: %w: %s has mode %s (want a file of mode 0600 or 0640: chmod 0600 %[3]s)", field, ErrSecret, path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 || len(text) > maxSecret || bytes.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("%s: %w: want one line of 1 to %d bytes in %s", field, ErrSecret, maxSecret, path)
	}
	return string(text), nil
}
