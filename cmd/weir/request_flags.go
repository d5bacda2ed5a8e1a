package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/policy"
)

// requestFlags describe a request on the command line.
type requestFlags struct {
	ip, method, endpoint, user, role string
	apiKey, apiKeyFile               string
	metadata                         map[string]string
}

// requestFlagNames are those that requestFlags.add adds.
var requestFlagNames = []string{"ip", "method", "endpoint", "user", "role", "api-key", "api-key-file", "metadata"}

func (f *requestFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ip, "ip", "", "address of the client")
	flags.StringVar(&f.method, "method", "", "HTTP method, such as GET")
	flags.StringVar(&f.endpoint, "endpoint", "", "path, such as /api/v2/orders")
	flags.StringVar(&f.user, "user", "", "who was authenticated")
	flags.StringVar(&f.role, "role", "", "role of the user")
	flags.StringVar(&f.apiKey, "api-key", "", "API key; others on this machine can see it: see --api-key-file")
	flags.StringVar(&f.apiKeyFile, "api-key-file", "", "file whose first line is the API key; - for the standard input")
	flags.StringToStringVar(&f.metadata, "metadata", nil, "further name=value of the request; may be repeated")
	completeWith(cmd, "method", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
	for _, name := range []string{"ip", "endpoint", "user", "role", "api-key", "metadata"} {
		completeWith(cmd, name)
	}
}

// given lists the flags of these that were given, as they are written.
func given(cmd *cobra.Command, names ...string) []string {
	var all []string
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			all = append(all, "--"+name)
		}
	}
	return all
}

// context understands the flags. Its API key is the key itself.
func (f *requestFlags) context(stdin io.Reader) (policy.RequestContext, error) {
	r := policy.RequestContext{
		Method: strings.ToUpper(f.method), Endpoint: f.endpoint, UserID: f.user, UserRole: f.role,
		APIKey: f.apiKey, Metadata: f.metadata,
	}
	if f.ip != "" {
		ip, err := netip.ParseAddr(f.ip)
		if err != nil || ip.Zone() != "" {
			return r, usagef("--ip %s: want an IPv4 or IPv6 address without a zone, such as 203.0.113.7", f.ip)
		}
		r.ClientIP = ip.Unmap()
	}
	if f.apiKeyFile == "" {
		return r, nil
	}
	if f.apiKey != "" {
		return r, usagef("want --api-key or --api-key-file, not both")
	}
	key, err := readSecret(f.apiKeyFile, stdin)
	r.APIKey = key
	return r, err
}

// readSecret reads the first line of a file, or of the standard input.
func readSecret(path string, stdin io.Reader) (string, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("--api-key-file: %w", err)
		}
		defer file.Close()
		stdin = file
	}
	// One byte more than a key may have, and the end of the line.
	data, err := io.ReadAll(io.LimitReader(stdin, policy.MaxText+3))
	if err != nil {
		return "", fmt.Errorf("--api-key-file: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(line) == 0:
		return "", fmt.Errorf("--api-key-file %s: the first line is empty, and has to be the key", path)
	case len(line) > policy.MaxText:
		return "", fmt.Errorf("--api-key-file %s: the first line has more than %d bytes", path, policy.MaxText)
	}
	return string(line), nil
}
