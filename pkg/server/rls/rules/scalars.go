package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

// text reads any single value as it is written, as envoyproxy/ratelimit does: "value: 404" is text.
func (r *reader) text(to *string, what string) func(at) {
	return func(a at) {
		switch {
		case a.Kind != yaml.ScalarNode || a.ShortTag() == "!!binary":
			r.fail(a, fmt.Sprintf("%s must be text, got %s", what, yamlfile.Describe(a.Node)), "write a single value")
		case !yamlfile.IsNull(a.Node):
			*to = a.Value
		}
	}
}

// The truth values of YAML 1.1, which files for envoyproxy/ratelimit are in.
var (
	yes = []string{"true", "y", "yes", "on"}
	no  = []string{"false", "n", "no", "off"}
)

func (r *reader) boolean(to *bool, what string) func(at) {
	return func(a at) {
		word := strings.ToLower(a.Value)
		switch {
		case a.Kind == yaml.ScalarNode && yamlfile.IsNull(a.Node):
		case a.Kind == yaml.ScalarNode && !yamlfile.Quoted(a.Node) && slices.Contains(yes, word):
			*to = true
		case a.Kind == yaml.ScalarNode && !yamlfile.Quoted(a.Node) && slices.Contains(no, word):
			*to = false
		default:
			r.fail(a, fmt.Sprintf("%s must be true or false, got %s", what, yamlfile.Describe(a.Node)), "write true or false without quotes")
		}
	}
}

// count reads a whole number of 32 bits, in any of the spellings of YAML 1.1.
func (r *reader) count(to *uint32, what string) func(at) {
	return func(a at) {
		if a.Kind == yaml.ScalarNode && yamlfile.IsNull(a.Node) {
			return
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(a.Value, "_", ""), 0, 64)
		switch {
		case a.Kind != yaml.ScalarNode || yamlfile.Quoted(a.Node) || err != nil && !isRange(err):
			r.fail(a, fmt.Sprintf("%s must be a whole number, got %s", what, yamlfile.Describe(a.Node)), "write digits only, such as 100, without quotes")
		case n < 0:
			r.fail(a, fmt.Sprintf("%s must not be negative, got %s", what, policy.Shorten(a.Value)), "write 0 to deny everything, or a positive number")
		case n > math.MaxUint32:
			r.fail(a, fmt.Sprintf("%s is too large: %s", what, policy.Shorten(a.Value)), fmt.Sprintf(`write at most %d, or "unlimited: true"`, uint32(math.MaxUint32)))
		default:
			*to = uint32(n)
		}
	}
}

func isRange(err error) bool {
	e, ok := err.(*strconv.NumError)
	return ok && e.Err == strconv.ErrRange
}
