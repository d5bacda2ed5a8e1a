package limiter

import "fmt"

type textNeed bool

const (
	mayBeEmpty  textNeed = false
	mustBeThere textNeed = true
)

// checkText judges a text of a query.
func checkText(field, text string, need textNeed) *QueryError {
	if plain(text) && (text != "" || need == mayBeEmpty) {
		return nil
	}
	problem, mend := textFault(text, need)
	if problem == "" {
		return nil
	}
	return &QueryError{field, problem, mend}
}

// plain tells whether a text has nothing wrong with it, eight bytes at a time.
func plain(text string) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	if len(text) > MaxKey {
		return false
	}
	i := 0
	for ; i+8 <= len(text); i += 8 {
		t := text[i : i+8]
		w := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 |
			uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		deleted := w ^ 0x7f*each // is 0 where w is 0x7f
		if ((w-' '*each)&^w|(deleted-each)&^deleted)&high != 0 {
			return false
		}
	}
	for ; i < len(text); i++ {
		if text[i] < ' ' || text[i] == 0x7f {
			return false
		}
	}
	return true
}

func textFault(text string, need textNeed) (problem, mend string) {
	if text == "" && need == mustBeThere {
		return "must not be empty", "say whom the bucket is for"
	}
	if len(text) > MaxKey {
		return fmt.Sprintf("has %d bytes", len(text)), fmt.Sprintf("shorten it to at most %d, or use a digest of it", MaxKey)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return fmt.Sprintf("has a control character at byte %d", i), "remove it"
		}
	}
	return "", ""
}

// maxMetadata is how many names a request may have in its metadata.
const maxMetadata = 64

// checkRequest judges the texts of a request.
func checkRequest(q *Query) error {
	r := q.Request
	if plain(q.Key) && plain(r.Method) && plain(r.Endpoint) && plain(r.UserID) && plain(r.UserRole) && plain(r.APIKey) {
		return checkMetadata(r.Metadata)
	}
	for _, c := range [...]struct{ field, text string }{
		{"key", q.Key}, {"context.method", r.Method}, {"context.endpoint", r.Endpoint}, {"context.user_id", r.UserID},
		{"context.user_role", r.UserRole}, {"context.api_key", r.APIKey},
	} {
		if bad := checkText(c.field, c.text, mayBeEmpty); bad != nil {
			return bad
		}
	}
	return nil
}

func checkMetadata(metadata map[string]string) error {
	if len(metadata) > maxMetadata {
		return &QueryError{"context.metadata", fmt.Sprintf("has %d names", len(metadata)), fmt.Sprintf("send at most %d", maxMetadata)}
	}
	for name, text := range metadata {
		switch {
		case name == "":
			return &QueryError{"context.metadata", "a name must not be empty", "name the value, or leave it out"}
		case !plain(name):
			problem, mend := textFault(name, mayBeEmpty)
			return &QueryError{"context.metadata", "a name " + problem, mend}
		case !plain(text):
			problem, mend := textFault(text, mayBeEmpty)
			return &QueryError{fmt.Sprintf("context.metadata[%q]", name), problem, mend}
		}
	}
	return nil
}
