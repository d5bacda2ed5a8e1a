// Package config reads weir's configuration file.
//
// The file is YAML and is read strictly: what weir does not know, cannot use or
// would have to ignore is an error. Every error names its place in the file, the
// field, what is wrong and the mend, and all of them are reported at once. A
// file with an error gives no configuration at all, so that nothing is ever
// half applied.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"github.com/weir-limiter/weir/pkg/policy"
)

// MaxFileSize is the size of the largest file that is read, in bytes: one line
// for each of [policy.MaxPrefixes].
const MaxFileSize = 2 << 20

// Config is a configuration that weir can enforce as it stands, with defaults
// filled in.
type Config struct {
	// Interfaces are what the daemon attaches to. Each pair of name and hook
	// occurs once.
	Interfaces []Interface
	// Table sizes the bucket tables of the kernel and of layer 7.
	Table Table
	// Server says where the daemon listens, and what it makes of requests.
	Server Server
	// Redis is the shared store; nil on a single node.
	Redis *Redis
	// Fallback says what happens while the store is away.
	Fallback Fallback
	// Policies are valid as a set, see [policy.ValidateSet], and in file order.
	Policies []policy.Policy
	// Allow and Deny are source prefixes that are judged before any policy, see
	// [policy.Document].
	Allow, Deny []netip.Prefix
}

// Document returns what the file asks of the kernel and of layer 7, without
// where and how.
func (c *Config) Document() policy.Document {
	return policy.Document{Policies: c.Policies, Allow: c.Allow, Deny: c.Deny}
}

// Store returns what policies have to know of the store.
func (c *Config) Store() policy.Store {
	s := policy.Store{Shared: c.Redis != nil, OnFailure: policy.StoreFailureLocal}
	if !c.Fallback.ToMemory {
		s.OnFailure = policy.StoreFailureClosed
	}
	return s
}

// Interface is a network interface to enforce policies on.
type Interface struct {
	// Name is the name that the kernel knows it by, 1 to 15 bytes.
	Name string
	// Hook is where in the packet's way weir sits; default xdp.
	Hook Hook
	// Mode is the way in which XDP is attached; default auto, and always auto at
	// the other hooks.
	Mode AttachMode
}

// Hook is the place in the kernel's packet path at which weir attaches.
type Hook string

// The hooks.
const (
	HookXDP       Hook = "xdp"
	HookTCIngress Hook = "tc-ingress"
	HookTCEgress  Hook = "tc-egress"
)

// Hooks returns every hook.
func Hooks() []Hook { return []Hook{HookXDP, HookTCIngress, HookTCEgress} }

// Direction returns the way that the packets of the hook take.
func (h Hook) Direction() policy.Direction {
	if h == HookTCEgress {
		return policy.DirectionEgress
	}
	return policy.DirectionIngress
}

// AttachMode is the way in which an XDP program is attached.
type AttachMode string

// The modes of attaching.
const (
	AttachAuto    AttachMode = "auto"    // native if the driver can, else generic
	AttachNative  AttachMode = "native"  // in the driver, or not at all
	AttachGeneric AttachMode = "generic" // in the network stack
)

// AttachModes returns every mode of attaching.
func AttachModes() []AttachMode { return []AttachMode{AttachAuto, AttachNative, AttachGeneric} }

// Table sizes the bucket tables. Both numbers are powers of two from
// [MinEntries] to [MaxEntries], default [DefaultEntries], and an entry takes 16
// bytes; one more in the kernel.
type Table struct {
	// Entries is the number of buckets that the kernel has.
	Entries uint32
	// L7Entries is the number of entries of layer 7. Algorithms that count take more
	// than one for a bucket.
	L7Entries uint32
}

// The bounds of a table's entries and their default.
const (
	MinEntries     = 1 << 10
	MaxEntries     = 1 << 28
	DefaultEntries = 1 << 20
)

func defaults() *Config {
	return &Config{
		Table:    Table{Entries: DefaultEntries, L7Entries: DefaultEntries},
		Server:   defaultServer(),
		Fallback: defaultFallback(),
	}
}

// Load reads the file at path. Faults of its content are [Errors]; a file that
// cannot be read is an error that wraps the one of the operating system.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// readFile reads a file as far as it is looked at.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read configuration: %w (name the file with -c)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	// One byte more than is allowed, for Parse to see that it is too much.
	data, err := io.ReadAll(io.LimitReader(file, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}

// Parse reads a configuration from data. The name stands for the file in
// messages. Every error that it returns is of type [Errors], and the
// configuration is nil then.
func Parse(name string, data []byte) (*Config, error) {
	d := newDecoder(name)
	cfg := defaults()
	if d.read(data, cfg) {
		store := cfg.Store()
		store.Shared = d.has("redis") // readable or not
		d.checkDocument(cfg.Document().ValidateFor(store))
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	cfg.Policies = cfg.Document().WithStore(cfg.Store()).Policies
	return cfg, nil
}

// read reads the one document of a file, and reports whether there is one.
func (d *decoder) read(data []byte, to *Config) bool {
	root := d.document(data)
	if root != nil {
		d.decode(cursor{node: root, pos: nodePosition(root)}, to.into())
	}
	return root != nil
}

// LoadDocument reads policies and lists of the file at path for somebody else
// to put in force, who knows whether there is a store: consistency and
// on_store_failure are as they are written, or empty, see
// [policy.Policy.WithStore]. It fails as [Load] does.
func LoadDocument(path string) (policy.Document, error) {
	data, err := readFile(path)
	if err != nil {
		return policy.Document{}, err
	}
	d, cfg := newDecoder(path), defaults()
	if d.read(data, cfg) {
		d.checkDocument(cfg.Document().Validate())
	}
	if err := d.err(); err != nil {
		return policy.Document{}, err
	}
	return cfg.Document(), nil
}
