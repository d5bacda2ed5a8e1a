package rules

import (
	"fmt"
	"strings"
	"testing"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

type entry = ratelimit.RateLimitDescriptor_Entry

func entries(pairs ...string) (list []*entry) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func good(t testing.TB, name string) *Set {
	t.Helper()
	set, err := Parse(name, files.Read(t, "good", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestFind is a table of what envoyproxy/ratelimit finds in such files.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		file, domain string
		entries      []*entry
		limit        uint32 // 0: none
		parts        string
	}{
		{"basic", "shop", nil, 0, ""},
		{"basic", "shop", entries("tier", "gold"), 0, ""},
		{"basic", "shop", entries("tier", "silver"), 0, ""},
		{"basic", "shop", entries("tier", "gold", "user", "ann"), 5, "ann"},
		{"basic", "shop", entries("tier", "gold", "user", ""), 5, ""},
		{"basic", "shop", entries("tier", "gold", "user", "bot"), 1, ""},
		{"basic", "shop", entries("tier", "silver", "user", "ann"), 0, ""},
		{"basic", "shop", entries("user", "ann", "tier", "gold"), 0, ""},
		{"basic", "shop", entries("path", "/x"), 20, "/x"},
		{"basic", "shop", entries("path", "/login"), 30, ""},
		{"basic", "shop", entries("path", "/health"), 0, ""},
		{"basic", "shop", entries("path", "/x", "user", "ann"), 0, ""}, // deeper than any limit
		{"basic", "shop", entries("day", "x"), 1, "x"},
		{"basic", "shop", entries("day", "x", "deeper", "in"), 2, "x"},
		{"basic", "shop", entries("day", "x", "deeper", "out"), 0, ""},
		{"basic", "shop", entries("tier_gold", "x", "user", "ann"), 5, "tier_gold x user ann"}, // as that server joins them
		{"wildcards", "wild", entries("file", "img/a"), 10, "img/a"},
		{"wildcards", "wild", entries("file", "img/"), 10, "img/"},
		{"wildcards", "wild", entries("file", "img/big/a"), 10, "img/big/a"},
		{"wildcards", "wild", entries("file", "img/one"), 12, ""},
		{"wildcards", "wild", entries("file", "css/a"), 13, "css/a"},
		{"wildcards", "wild", entries("shared", "ab", "who", "ann"), 14, "ann"},
		{"wildcards", "wild", entries("shared", "b", "who", "ann"), 0, ""},
		{"wildcards", "wild", entries("mid", "aXb"), 0, ""},
		{"wildcards", "wild", entries("mid", "a*b"), 15, ""},
		{"wildcards", "wild", entries("any1", "v"), 16, "any1 v"},
		{"wildcards", "wild", entries("any*", "v"), 16, "v"},
		{"wildcards", "wild", entries("all", ""), 17, ""},
		{"wildcards", "wild", entries("all", "x"), 17, ""},
		{"scalars", "8080", entries("status", "404"), 1, ""},
		{"scalars", "8080", entries("on", "true"), 2, ""},
		{"anchors", "anchors", entries("a", "x"), 10, "x"},
		{"anchors", "anchors", entries("b", "x"), 20, "x"},
		{"anchors", "anchors", entries("c", "x"), 10, "x"},
		{"units", "units", entries("hex", ""), 16, ""},
		{"units", "units", entries("thousand", ""), 1000, ""},
	} {
		l, parts := good(t, c.file).Domain(c.domain).Find(c.entries, nil)
		var limit uint32
		if l != nil {
			limit = l.RequestsPerUnit
		}
		if limit != c.limit || l != nil && strings.Join(parts, " ") != c.parts {
			t.Errorf("%s %v: %d %q, want %d %q", c.file, c.entries, limit, parts, c.limit, c.parts)
		}
	}
	if good(t, "basic").Domain("other") != nil {
		t.Error("a domain that is not there was found")
	}
}

// descriptor is one of the file, as a reference reads it.
type descriptor struct {
	Key            string         `yaml:"key"`
	Value          string         `yaml:"value,omitempty"`
	RateLimit      map[string]any `yaml:"rate_limit,omitempty"`
	ShareThreshold bool           `yaml:"share_threshold,omitempty"`
	Descriptors    []descriptor   `yaml:"descriptors,omitempty"`
}

func (d *descriptor) name() string {
	if d.Value == "" {
		return d.Key
	}
	return d.Key + "_" + d.Value
}

// refer looks a descriptor up the slow way: by the text of README and config_impl.go of envoyproxy/ratelimit,
// level by level over a list. It returns the path, and what stands for each entry in the bucket's name.
func refer(list []descriptor, entries []*entry) (path string, bucket []string, found bool) {
	for i, e := range entries {
		var hit *descriptor
		said := ""
		for k := range list { // key and value
			if list[k].name() == e.Key+"_"+e.Value {
				hit = &list[k]
				if hit.ShareThreshold { // the value is the very pattern that the others share
					said = hit.Key + "\x00*"
				}
			}
		}
		if hit == nil { // the first wildcard
			for k := range list {
				prefix, wild := strings.CutSuffix(list[k].name(), "*")
				if wild && strings.HasPrefix(e.Key+"_"+e.Value, prefix) {
					hit = &list[k]
					said = e.Key + "\x00" + e.Value
					if hit.ShareThreshold {
						said = e.Key + "\x00*"
					}
					break
				}
			}
		}
		if hit == nil { // key alone
			for k := range list {
				if list[k].name() == e.Key {
					hit = &list[k]
					said = e.Key + "\x00" + e.Value
				}
			}
		}
		if hit == nil {
			return "", nil, false
		}
		path += "." + hit.name()
		bucket = append(bucket, said)
		if i == len(entries)-1 {
			return path, bucket, hit.RateLimit != nil
		}
		list = hit.Descriptors
	}
	return "", nil, false
}

func drawLevel(t *rapid.T, depth int, requests *int) []descriptor {
	var list []descriptor
	seen := map[string]bool{}
	for range rapid.IntRange(0, 4).Draw(t, "size") {
		d := descriptor{
			Key:   rapid.SampledFrom([]string{"a", "b", "a_b", "a*"}).Draw(t, "key"),
			Value: rapid.SampledFrom([]string{"", "x", "xy", "x*", "*", "b", "x_y"}).Draw(t, "value"),
		}
		if seen[d.name()] {
			continue
		}
		seen[d.name()] = true
		d.ShareThreshold = strings.HasSuffix(d.name(), "*") && rapid.Bool().Draw(t, "share")
		if rapid.Bool().Draw(t, "limited") {
			*requests++
			d.RateLimit = map[string]any{"unit": "day", "requests_per_unit": *requests}
		}
		if depth < 3 {
			d.Descriptors = drawLevel(t, depth+1, requests)
		}
		list = append(list, d)
	}
	return list
}

func drawEntries(t *rapid.T) (list []*entry) {
	for range rapid.IntRange(1, 3).Draw(t, "entries") {
		list = append(list, &entry{
			Key:   rapid.SampledFrom([]string{"a", "b", "a_b", "ab", "a*"}).Draw(t, "entry key"),
			Value: rapid.SampledFrom([]string{"", "x", "xy", "xyz", "b", "y", "x_y", "x*"}).Draw(t, "entry value"),
		})
	}
	return list
}

// TestFindIsTheReference compares limits found, and which requests share a bucket.
func TestFindIsTheReference(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		requests := 0
		list := drawLevel(t, 1, &requests)
		data, err := yaml.Marshal(map[string]any{"domain": "d", "descriptors": list})
		if err != nil {
			t.Fatal(err)
		}
		set, err := Parse("drawn", data)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		ours, theirs := map[string]string{}, map[string]string{}
		for range 20 {
			e := drawEntries(t)
			l, parts := set.Domain("d").Find(e, nil)
			path, bucket, ok := refer(list, e)
			if ok != (l != nil) || ok && l.Path != "d"+path {
				t.Fatalf("%v: found %+v, reference %t %q\n%s", e, l, ok, path, data)
			}
			if !ok {
				continue
			}
			found++
			mine, want := fmt.Sprintf("%s %q", l.Path, parts), fmt.Sprintf("%s %q", path, bucket)
			if as, ok := ours[mine]; ok && as != want {
				t.Fatalf("%v shares bucket %s with another bucket\n%s", e, mine, data)
			}
			if as, ok := theirs[want]; ok && as != mine {
				t.Fatalf("%v has bucket %s apart from its own\n%s", e, mine, data)
			}
			ours[mine], theirs[want] = want, mine
		}
	})
	if found == 0 {
		t.Error("no draw ever found a limit")
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	d, e, parts := good(t, "wildcards").Domain("wild"), entries("shared", "abcdef", "who", "ann"), make([]string, 0, 4)
	if n := testing.AllocsPerRun(100, func() { d.Find(e, parts) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
