package ratesync

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/weir-limiter/weir/pkg/policy"
)

// policyRecord is a set as it is stored: in Redis each field by itself, on disk as JSON.
type policyRecord struct {
	Begun    string `json:"begun"`
	Version  string `json:"version"`
	Sum      string `json:"sum"`
	Encoding string `json:"encoding"`
	By       string `json:"by"`
	At       string `json:"at"` // ms
	Body     []byte `json:"body"`
}

// fieldSizes is how long the fields may be, in the order of fields.
var fieldSizes = []any{16, 16, 2 * sha256.Size, 16, maxPolicyBy, 16, MaxPolicyBody}

// fields are in the order of the scripts.
func (r *policyRecord) fields() []any {
	return []any{r.Begun, r.Version, r.Sum, r.Encoding, r.By, r.At, r.Body}
}

// head tells one set from another.
func (r *policyRecord) head() string { return r.Begun + ":" + r.Version + ":" + r.Sum }

// sum is the checksum of all that there is, and of whose it is: a set of one prefix is none of another.
func (r *policyRecord) sum(prefix string) string {
	h := sha256.New()
	for _, field := range []string{"weir policies", prefix, r.Begun, r.Version, r.Encoding, r.By, r.At} {
		fmt.Fprintf(h, "%d:%s,", len(field), field)
	}
	h.Write(r.Body)
	return hex.EncodeToString(h.Sum(nil))
}

// policyHead is what is known of a set before it is written.
type policyHead struct {
	begun   int64
	version uint64
	by      string
	at      int64 // ms
}

// newPolicySet writes a set. A nil document is a cleared one.
func newPolicySet(prefix string, h policyHead, doc *policy.Document, compress bool) (*PolicySet, error) {
	r := policyRecord{
		Begun: strconv.FormatInt(h.begun, 10), Version: strconv.FormatUint(h.version, 10),
		By: printable(h.by), At: strconv.FormatInt(h.at, 10),
	}
	var err error
	if r.Encoding, r.Body, err = encodeDocument(doc, compress); err != nil {
		return nil, err
	}
	r.Sum = r.sum(prefix)
	return r.read(prefix) // as every node will read it
}

func encodeDocument(doc *policy.Document, compress bool) (string, []byte, error) {
	if doc == nil {
		return EncodingNone, nil, nil
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return "", nil, fmt.Errorf("write the cluster's policies: %w", err)
	}
	if len(text) > MaxPolicyText {
		return "", nil, fmt.Errorf("the cluster's policies are %d bytes of JSON, and may be %d (join prefixes to wider ones, or write fewer policies)", len(text), MaxPolicyText)
	}
	if !compress {
		if len(text) > MaxPolicyBody {
			return "", nil, fmt.Errorf("the cluster's policies are %d bytes of JSON, and the store takes %d (set redis.compression: true)", len(text), MaxPolicyBody)
		}
		return EncodingJSON, text, nil
	}
	w, err := newZstd()
	if err != nil {
		return "", nil, fmt.Errorf("compress the cluster's policies: %w", err)
	}
	packed := w.EncodeAll(text, nil)
	if err := w.Close(); err != nil {
		return "", nil, fmt.Errorf("compress the cluster's policies: %w", err)
	}
	if len(packed) > MaxPolicyBody {
		return "", nil, fmt.Errorf("the cluster's policies are %d bytes compressed, and the store takes %d (join prefixes to wider ones, or write fewer policies)", len(packed), MaxPolicyBody)
	}
	return EncodingZstd, packed, nil
}

func newZstd() (*zstd.Encoder, error) { return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) }

// read reads a set that anybody may have written. Its errors are [ErrPolicySet].
func (r *policyRecord) read(prefix string) (*PolicySet, error) {
	s := &PolicySet{Sum: r.Sum, Encoding: r.Encoding, By: r.By, Size: len(r.Body), record: *r}
	at, err := counted("at", r.At)
	if err != nil {
		return nil, err
	}
	s.At = time.UnixMilli(int64(at))
	begun, err := counted("begun", r.Begun)
	if err != nil {
		return nil, err
	}
	s.Begun = int64(begun)
	if s.Version, err = counted("version", r.Version); err != nil {
		return nil, err
	}
	switch {
	case s.Version == 0:
		return nil, noSet("its version is 0, and versions begin at 1")
	case printable(r.By) != r.By:
		return nil, noSet("it does not say in a short line who stored it")
	case len(r.Body) > MaxPolicyBody:
		return nil, noSet("it has %d bytes, and may have %d", len(r.Body), MaxPolicyBody)
	case r.Sum != r.sum(prefix):
		return nil, noSet("its checksum is wrong")
	}
	return s, r.document(s)
}

// document reads the body into s.
func (r *policyRecord) document(s *PolicySet) (err error) {
	text := r.Body
	switch r.Encoding {
	case EncodingNone:
		s.Cleared = true
		if len(text) > 0 {
			return noSet("it is cleared, and has a body")
		}
		return nil
	case EncodingJSON:
	case EncodingZstd:
		if text, err = unpack(r.Body); err != nil {
			return err
		}
	default:
		return noSet("its encoding %q is not known here (was it stored by a newer weir? then this one wants an upgrade)", printable(r.Encoding))
	}
	if err := json.Unmarshal(text, &s.Document); err != nil {
		return noSet("%w (was it stored by a newer weir? then this one wants an upgrade)", err)
	}
	if faults := s.Document.Validate(); faults != nil {
		return noSet("%s %s (was it stored by another version of weir?)", faults[0].Path, faults[0].Problem)
	}
	return nil
}

// unpack decompresses no more than a set may have: a few bytes may say that they are gigabytes.
func unpack(packed []byte) ([]byte, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPolicyText))
	if err != nil {
		return nil, noSet("%w", err)
	}
	defer d.Close()
	text, err := d.DecodeAll(packed, nil)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, noSet("it unpacks to more than %d bytes", MaxPolicyText)
	}
	if err != nil {
		return nil, noSet("it is no zstd: %w", err)
	}
	return text, nil
}

// counted reads a number as weir writes it, which Lua counts exactly.
func counted(name, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > maxVersion || strconv.FormatUint(n, 10) != text {
		return 0, noSet("its %s is not a whole number from 0 to %d", name, uint64(maxVersion))
	}
	return n, nil
}

// printable is a text fit for a line of a terminal, and bounded.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, text)
	if len(text) <= maxPolicyBy {
		return text
	}
	end := maxPolicyBy
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
