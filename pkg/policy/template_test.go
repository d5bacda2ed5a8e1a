package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ann is a request of which everything is known.
func ann() RequestContext {
	return RequestContext{
		ClientIP: netip.MustParseAddr("203.0.113.7"), Method: "POST", Endpoint: "/api/./v2?a=b", UserID: "ann", UserRole: "premium",
		APIKey: "0a1b", RequestID: "r-1", Metadata: map[string]string{"tenant": "acme", "a.b c": "d", "NAME": "n"},
	}
}

func TestTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"{user}":                    "ann",
		"{user}:{endpoint}":         "ann:/api/v2",
		"{role}{method}{api_key}":   "premiumPOST0a1b",
		"{ip} {key}":                "203.0.113.7 k",
		"{metadata.tenant}":         "acme",
		"{metadata.a.b c}":          "d",
		"{metadata.NAME}":           "n",
		"{{{user}}}":                "{ann}",
		"}}{{é{user}:":              "}{éann:",
		"{user}" + "{{user}}":       "ann{user}",
		"{metadata.gone}{user}":     "missing {metadata.gone}",
		"{user}/{metadata.x}{role}": "missing {metadata.x}",
	} {
		template, err := ParseTemplate(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		r := ann()
		got, missing := template.Expand("k", &r)
		if missing != "" {
			got = "missing " + missing
		}
		if got != want || template.String() != text {
			t.Errorf("%q: got %q, want %q", template, got, want)
		}
		var empty RequestContext
		if got, missing := template.Expand("", &empty); got != "" || missing == "" {
			t.Errorf("%q of nobody: %q, missing %q", text, got, missing)
		}
	}
}

func TestTemplateFaults(t *testing.T) {
	const fields = "use one of user, role, api_key, endpoint, method, ip, key, metadata.NAME"
	for text, says := range map[string]string{
		"":                                    `"" has no field: everything would share one bucket; write at least one of user, role`,
		"abc":                                 `"abc" has no field`,
		"{{user}}":                            `"{{user}}" has no field`,
		"{usr}":                               `unknown field "usr" at byte 1; ` + fields,
		"é{user}{User}":                       `unknown field "User" at byte 9; ` + fields,
		"{}":                                  `unknown field "" at byte 1`,
		"{ user}":                             `unknown field " user" at byte 1`,
		"{metadata}":                          `unknown field "metadata" at byte 1; ` + fields,
		"{user}{metadata.}":                   "{metadata.} at byte 7 has no name; write such as {metadata.tenant}",
		"{user":                               `the brace at byte 1 is not closed; write {name}, or "{{" for a brace`,
		"{user}{":                             "the brace at byte 7 is not closed",
		"{us{er}":                             "the brace at byte 1 is not closed",
		"{user}}":                             `byte 7 closes a brace that is not open; write "}}" for a brace`,
		"}{user}":                             "byte 1 closes a brace that is not open",
		strings.Repeat("{ip}", 33):            "has 33 fields and texts between them; write at most 32",
		strings.Repeat("a", MaxText) + "{ip}": "has 1028 bytes; shorten it to at most 1024",
	} {
		template, err := ParseTemplate(text)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", text, err, says)
			continue
		}
		checkTextError(t, err)
		if template.Parts() != nil || template.String() != "" {
			t.Errorf("%q: a template beside the error", text)
		}
	}
	if _, err := ParseTemplate(strings.Repeat("{ip}", 32)); err != nil {
		t.Error(err)
	}
}

// checkTemplate holds that a template says what its parts say, and names every field that it can read.
func checkTemplate(t rapid.TB, text string, template Template) {
	var again strings.Builder
	fields := 0
	for i, p := range template.Parts() {
		again.WriteString(p.String())
		switch {
		case p.Field != FieldText:
			fields++
		case p.Text == "" || i > 0 && template.Parts()[i-1].Field == FieldText:
			t.Fatalf("%q: an empty text, or two in a row: %q", text, template.Parts())
		}
	}
	if again.String() != text || fields == 0 {
		t.Fatalf("%q: the parts say %q", text, again.String())
	}
	r := ann()
	expanded, missing := template.Expand("k", &r)
	if (missing == "") == (expanded == "") || missing != "" && !strings.Contains(text, missing) {
		t.Fatalf("%q: %q, missing %q", text, expanded, missing)
	}
}

func TestTemplatesAreTheirParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawTemplate().Draw(t, "template")
		template, err := ParseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		checkTemplate(t, text, template)
	})
}

func TestSplit(t *testing.T) {
	for _, c := range []struct{ template, text, want string }{
		{"{user}", "a:b", "a:b"},
		{"{user}:{endpoint}", "a:b:/x:y", "a:b|/x:y"},
		{"{metadata.tenant}/{method}", "a/b/POST", "a/b|POST"},
		{"{ip} {user}", "2001:db8::1 ann b", "2001:db8::1|ann b"},
		{"{{{user}}}-", "{ann}-", "ann"},
		{"{user}:{role}", "ann:b", "ann|b"},
		{"{user}:{role}", "a:b:c", "in more than one way"},
		{"{user}{role}", "ab", "a|b"},
		{"{user}{role}", "abc", "in more than one way"},
		{"{ip}:{user}", "2001:db8::1:ann", "2001:db8::1|ann"},
		{"{ip}:{user}", "1:2:3::4:5:ann", "in more than one way"},
		{"{ip}:{user}", "192.0.2.1:ann", "192.0.2.1|ann"},
		{"{user}:{endpoint}", "a:b", "is no key of"},
		{"{method}{user}", "GETann", "in more than one way"},
		{"{user}:{method}", "a:get", "is no key of"},
		{"{user}", "", "is no key of"},
		{"a{user}", "b", "is no key of"},
		{"{user}" + strings.Repeat(":{role}", 15), strings.Repeat(":", 4000), "in more than one way"},
		{"{user}", strings.Repeat("a", 4*MaxText+1), "shorten it"},
	} {
		template, err := ParseTemplate(c.template)
		if err != nil {
			t.Fatal(err)
		}
		values, err := template.Split(c.text)
		got := strings.Join(values, "|")
		if err != nil {
			checkTextError(t, err)
			got = err.Error()
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("%q of %.60q: got %q, want %q", c.text, c.template, got, c.want)
		}
	}
}

// TestSplitUndoesExpand holds that what can be read at all is read as it was made.
func TestSplitUndoesExpand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		template, err := ParseTemplate(drawTemplate().Draw(t, "template"))
		if err != nil {
			t.Fatal(err)
		}
		r := drawRequest().Draw(t, "request")
		r.Metadata["tenant"], r.Metadata["a b"] = "acme", "x"
		text, missing := template.Expand("k", &r)
		if missing != "" {
			return
		}
		r.Endpoint = CleanEndpoint(r.Endpoint)
		var want []string
		for _, p := range template.Parts() {
			if p.Field != FieldText {
				want = append(want, p.Value("k", &r))
			}
		}
		got, err := template.Split(text)
		if err != nil {
			if !strings.Contains(err.Error(), "in more than one way") {
				t.Fatalf("%q of %q: %v", text, template, err)
			}
			return
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q of %q: got %q, want %q", text, template, got, want)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{user}:{endpoint}", "{{{metadata.a b}}}", "{", "}", "{}", "{metadata.}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		template, err := ParseTemplate(text)
		if err != nil {
			checkTextError(t, err)
			return
		}
		checkTemplate(t, text, template)
		if _, err := template.Split(text); err != nil {
			checkTextError(t, err)
		}
	})
}

func TestValuesAllocateNothing(t *testing.T) {
	template, err := ParseTemplate("{user}:{role}:{api_key}:{endpoint}:{method}:{key}:{metadata.tenant}")
	if err != nil {
		t.Fatal(err)
	}
	r := ann()
	n := testing.AllocsPerRun(100, func() {
		for _, p := range template.Parts() {
			if p.Value("k", &r) == "" {
				t.Error("a value is missing")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestEveryTemplateFieldIsKnown holds that what messages list is what can be read.
func TestEveryTemplateFieldIsKnown(t *testing.T) {
	r := ann()
	r.Metadata["NAME"] = "n"
	var seen []string
	for _, field := range TemplateFields() {
		template, err := ParseTemplate("{" + field + "}")
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		value, missing := template.Expand("k", &r)
		if missing != "" || slices.Contains(seen, value) {
			t.Errorf("%s: %q, missing %q", field, value, missing)
		}
		seen = append(seen, value)
	}
}
