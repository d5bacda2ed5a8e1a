package policy

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/internal/corpus"
)

const files = corpus.Corpus("../../testdata/document")

// same compares values as JSON can tell them: an empty list is none.
func same(t interface{ Fatalf(string, ...any) }, want, got any) {
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("differs (-want +got):\n%s", diff)
	}
}

// read is what a user of the API does with a text: one complaint, or a valid document.
func read(data []byte) (Document, string) {
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return d, err.Error()
	}
	var complaints []string
	for _, f := range d.Validate() {
		complaints = append(complaints, f.Error())
	}
	return d, strings.Join(complaints, "\n")
}

func TestDocumentRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawDocument().Draw(t, "document")
		if faults := want.Validate(); faults != nil {
			t.Fatalf("the generator made %v", faults)
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, complaint := read(data)
		if complaint != "" {
			t.Fatalf("%s\n%s", complaint, data)
		}
		same(t, want, got)
		for _, p := range want.Policies {
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			again := Policy{Name: "what was there before", Key: "too", Match: Match{Users: []string{"ann"}}}
			if err := json.Unmarshal(data, &again); err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			same(t, p, again)
		}
	})
}

func TestJSONHasTheNamesOfTheFile(t *testing.T) {
	p := Policy{Name: "dns", Scope: ScopePerIP, Limit: 100, Window: 36 * time.Hour, Match: Match{
		Sources: prefixes("203.0.113.0/24"), Ports: []PortRange{{53, 53}, {8000, 8100}}, Direction: DirectionIngress,
	}}.WithDefaults().WithStore(Store{})
	got, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"dns","scope":"per_ip","limit":100,"window":"36h","burst":100,"unit":"requests","algorithm":"token_bucket",` +
		`"priority":0,"layer":"kernel","mode":"enforce","consistency":"local","on_store_failure":"local","on_pressure":"pass",` +
		`"on_fragment":"pass","action":"drop","ipv4_prefix":32,"ipv6_prefix":64,` +
		`"match":{"sources":["203.0.113.0/24"],"ports":[53,"8000-8100"],"direction":"ingress"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWrittenZeroIsNotTheDefault(t *testing.T) {
	const head = `{"name": "a", "scope": "per_api_key", "limit": 1, "window": "1s"`
	for more, want := range map[string]Policy{
		`}`:                {Priority: 3, Burst: 1, IPv4Prefix: 32, IPv6Prefix: 64},
		`, "priority": 0}`: {Priority: 0, Burst: 1, IPv4Prefix: 32, IPv6Prefix: 64},
		`, "burst": 0, "ipv4_prefix": 0, "ipv6_prefix": 0}`: {Priority: 3},
	} {
		var got Policy
		if err := json.Unmarshal([]byte(head+more), &got); err != nil {
			t.Fatal(err)
		}
		got = Policy{Priority: got.Priority, Burst: got.Burst, IPv4Prefix: got.IPv4Prefix, IPv6Prefix: got.IPv6Prefix}
		same(t, want, got)
	}
}

func TestBadDocuments(t *testing.T) {
	files.CheckBad(t, ".json", func(_ *testing.T, _ string, data []byte) string {
		_, complaint := read(data)
		return complaint
	})
}

func TestGoodDocuments(t *testing.T) {
	for _, name := range files.Names(t, "good", ".json") {
		if _, complaint := read(files.Read(t, "good", name+".json")); complaint != "" {
			t.Errorf("%s: %s", name, complaint)
		}
	}
}

// TestJSONIsBounded feeds texts that are too much of something; the message stays short.
func TestJSONIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"bytes": {`{"allow": ["` + strings.Repeat("x", MaxJSONSize) + `"]}`, "larger than 8388608 bytes"},
		"list":  {`{"policies": [` + strings.Repeat("{},", MaxPolicies) + `{}]}`, "policies: has 10001 entries, want at most 10000"},
		"value": {`{"allow": ["` + strings.Repeat("x", 100_000) + `"]}`, "want an address"},
		"name":  {`{"` + strings.Repeat("x", 100_000) + `": 1}`, "unknown field"},
		"depth": {`{"allow": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "exceeded max depth"},
		"port":  {`{"policies": [{"match": {"ports": [` + strings.Repeat("1", 100_000) + `]}}]}`, "policies[0].match.ports[0]: want a port"},
		"users": {`{"policies": [{"name": "a", "match": {"users": [` + strings.Repeat(`"",`, 100_000) + `""]}}]}`, "match.users[0]: must not be empty"},
		"enum":  {`{"policies": [{"unit": "` + strings.Repeat("x", 100_000) + `"}]}`, "unknown value"},
		"texts": {`{"policies": [{"match": {"protocol": "` + strings.Repeat("x", 100_000) + `"}}]}`, "unknown protocol"},
	} {
		if _, got := read([]byte(c.text)); !strings.Contains(got, c.want) || len(got) > 200*maxFaults {
			t.Errorf("%s: got %d bytes: %.200s", name, len(got), got)
		}
	}
}

// FuzzDocument checks that no text makes the decoder panic or complain at length, and that what is
// valid is written and read back as it is.
func FuzzDocument(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, name := range files.Names(f, dir, ".json") {
			f.Add(files.Read(f, dir, name+".json"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want Document
		if err := json.Unmarshal(data, &want); err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("a complaint of %d bytes", len(err.Error()))
			}
			return
		}
		if want.Validate() != nil {
			return
		}
		written, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, complaint := read(written)
		if complaint != "" {
			t.Fatalf("%s\n%s", complaint, written)
		}
		same(t, want, got)
	})
}
