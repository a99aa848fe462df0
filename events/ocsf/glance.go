package ocsf

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"sallyport.dev/sallyport/events"
)

// Glance is the little of an event that counting statements takes. Fields that
// the event does not have are zero.
type Glance struct {
	Kind    string
	Time    time.Time
	Number  uint64
	Verdict string // of those that events names; "" for another
	Rows    int64
	Would   string // of those that events names; "" for another
	// Named: it says whose rows went out.
	Named bool
}

// Glancer reads Glances as Decode would, at a small part of its cost where
// events of a session tell the same of it as the one before. It may be used from
// many goroutines.
type Glancer struct {
	mu     sync.Mutex
	shared map[string][]byte // what the events of a session have in common
}

// Sessions are remembered as long as there are at most glanced, each with at
// most glancedBytes of its name and its part, which is mostly a kilobyte. What a
// host makes longer is decoded each time.
const (
	glanced      = 8192
	glancedBytes = 4096
)

// Glance reads an event of a session. It fails where Decode does.
func (g *Glancer) Glance(session string, payload []byte) (Glance, error) {
	g.mu.Lock()
	shared := g.shared[session]
	g.mu.Unlock()
	if shared != nil {
		if v, ok := glance(payload, shared); ok {
			return v, nil
		}
	}
	v, err := Decode(payload)
	if err != nil {
		return Glance{}, err
	}
	if part := common(payload); part != nil && len(session)+len(part) <= glancedBytes && !bytes.Equal(part, shared) {
		g.mu.Lock()
		if g.shared == nil || len(g.shared) >= glanced {
			g.shared = map[string][]byte{}
		}
		g.shared[strings.Clone(session)] = bytes.Clone(part) // not all that they were read from
		g.mu.Unlock()
	}
	return Glance{v.Kind, v.Time, v.Number, knownVerdict(v.Verdict), v.Rows, knownWould(v.Would), len(v.Subjects) > 0}, nil
}

// actorKey begins what Append writes of a session. It goes on into "unmapped",
// up to the event's own members there.
const actorKey = `"actor":{`

// common finds what the session has put into an event that Decode took; nil
// where that does not stand as Append writes it.
func common(b []byte) []byte {
	s := scanner{b: b}
	if !s.top() {
		return nil
	}
	start := s.i
	for {
		k := s.key()
		if k == "unmapped" {
			break
		}
		if !sessionObject(k) || !s.skip() || !s.is(',') {
			return nil
		}
	}
	if !s.is('{') {
		return nil
	}
	for {
		at := s.i
		k := s.key()
		if ownMember(k) {
			return b[start:at]
		}
		if !sessionMember(k) || !s.skip() || !s.is(',') {
			return nil
		}
	}
}

// sessionObject reports whether a session's part of an event has this member,
// sessionMember whether its part of "unmapped" has.
func sessionObject(k string) bool {
	switch k {
	case "actor", "src_endpoint", "dst_endpoint", "database", "device":
		return true
	}
	return false
}

func sessionMember(k string) bool {
	switch k {
	case "protocol", "resource", "workload", "spiffe", "actor", "principal", "actors", "issuer", "principal_issuer", "proof",
		"workload_proof", "workload_bound", "actor_proof", "actor_bound", "principal_proof", "principal_bound", "pooled", "durability", "login",
		"database_user", "database_role", "claimed_user", "claimed_database", "claimed_application", "gid", "cgroup", "reached", "path",
		"client_tls", "client_clear", "client_certificate", "undecoded", "server_tls", "server_from":
		return true
	}
	return false
}

// glance reads what Append wrote around what is shared. It says no to whatever
// it does not expect, for Decode to judge.
func glance(b, shared []byte) (Glance, bool) {
	s := scanner{b: b}
	if !s.top() || !bytes.HasPrefix(b[s.i:], shared) {
		return s.g, false
	}
	for s.i += len(shared); ; {
		k := s.key()
		if !ownMember(k) || !s.own(k) {
			return s.g, false
		}
		if s.is('}') {
			break
		}
		if !s.is(',') {
			return s.g, false
		}
	}
	if !s.is(',') || s.key() != "metadata" || !s.metadata() || !s.is('}') {
		return s.g, false
	}
	return s.g, s.i == len(b) && s.g.Kind != "" && !s.g.Time.IsZero()
}

// scanner walks over JSON as Append writes it: without spaces. Its methods
// report whether what they expect is there, and go behind it.
type scanner struct {
	b []byte
	i int
	g Glance
}

func (s *scanner) is(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// key reads a member's name and its colon.
func (s *scanner) key() string {
	k, ok := s.text()
	if !ok || !s.is(':') {
		return ""
	}
	return k
}

// top reads the event's own members before the session's.
func (s *scanner) top() bool {
	if !s.is('{') {
		return false
	}
	for {
		if bytes.HasPrefix(s.b[s.i:], []byte(actorKey)) {
			return true
		}
		ok := false
		switch s.key() {
		case "activity_name", "category_name", "class_name", "severity", "status", "status_code", "status_detail", "message", "action", "disposition":
			ok = s.str()
		case "activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "status_id", "duration", "action_id", "disposition_id":
			_, ok = s.num()
		case "is_alert":
			ok = s.boolean()
		case "time_dt":
			ok = s.time()
		case "authorizations":
			ok = s.authorizations()
		case "query_info":
			ok = s.query()
		}
		if !ok || !s.is(',') {
			return false
		}
	}
}

func (s *scanner) time() bool {
	text, ok := s.text()
	if !ok || len(text) != len(timeFormat) || text[19] != '.' {
		return false
	}
	t, err := time.Parse(timeFormat, text)
	s.g.Time = t
	return err == nil
}

func (s *scanner) authorizations() bool {
	return s.each(func() bool {
		return s.members(func(k string) bool {
			if k == "policy" {
				return s.members(func(k string) bool { return k == "name" && s.str() })
			}
			return k == "decision" && s.str()
		})
	})
}

func (s *scanner) detected() bool {
	return s.each(func() bool {
		return s.members(func(k string) bool {
			switch k {
			case "field", "kind":
				return s.str()
			case "column", "count":
				_, ok := s.num()
				return ok
			}
			return false
		})
	})
}

func (s *scanner) query() bool {
	return s.members(func(k string) bool {
		switch k {
		case "query_string", "uid":
			return s.str()
		case "bytes":
			_, ok := s.num()
			return ok
		}
		return false
	})
}

// ownMember reports whether a member of "unmapped" is the event's own. A
// session has none of these.
func ownMember(k string) bool {
	switch k {
	case "statement", "command", "fingerprint", "literals", "writes", "verdict", "rules", "objects", "masked", "masks", "revealed", "justification",
		"would", "would_rules", "would_reason", "would_masked", "would_filtered", "subjects", "subjects_named", "subjects_unknown", "remedy", "approvals", "outcome", "unplaced", "detected", "rows", "bytes", "bytes_in", "recorded", "duration_ns", "result_sha256":
		return true
	}
	return false
}

// own reads an event's own member of "unmapped".
func (s *scanner) own(k string) (ok bool) {
	switch k {
	case "statement":
		s.g.Number, ok = s.count()
	case "rows":
		s.g.Rows, ok = s.num()
	case "bytes", "bytes_in", "recorded", "duration_ns", "subjects_named":
		_, ok = s.num()
	case "subjects":
		ok = s.list()
		s.g.Named = true
	case "verdict":
		var verdict string
		verdict, ok = s.text()
		s.g.Verdict = knownVerdict(verdict)
	case "would":
		var would string
		would, ok = s.text()
		s.g.Would = knownWould(would)
	case "writes", "unplaced":
		ok = s.boolean()
	case "literals", "rules", "objects", "masked", "masks", "revealed", "approvals", "would_rules", "would_masked", "would_filtered":
		ok = s.list()
	case "detected":
		ok = s.detected()
	default:
		ok = s.str()
	}
	return ok
}

// metadata reads that object.
func (s *scanner) metadata() bool {
	ours := false
	ok := s.members(func(k string) bool {
		switch k {
		case "version", "uid", "correlation_uid":
			return s.str()
		case "event_code":
			code, ok := s.text()
			s.g.Kind = knownKind(code)
			return ok
		case "sequence":
			_, ok := s.count()
			return ok
		case "profiles":
			return s.list()
		case "is_truncated":
			return s.boolean()
		case "product":
			return s.members(func(k string) bool {
				if k == "name" {
					name, ok := s.text()
					ours = name == "sallyport"
					return ok
				}
				return (k == "vendor_name" || k == "version") && s.str()
			})
		}
		return false
	})
	return ok && ours
}

// knownKind and knownVerdict return a name of this program that is equal, for
// keeps; "" where there is none.
func knownKind(name string) string {
	for k := events.Kind(1); k.String() != ""; k++ {
		if k.String() == name {
			return k.String()
		}
	}
	return ""
}

func knownVerdict(name string) string {
	for v := events.Deny; v <= events.Observed; v++ {
		if v.String() == name {
			return v.String()
		}
	}
	return ""
}

func knownWould(name string) string {
	for w := events.WouldBlock; w.String() != ""; w++ {
		if w.String() == name {
			return w.String()
		}
	}
	return ""
}

// members reads an object, each value by f.
func (s *scanner) members(f func(key string) bool) bool {
	if !s.is('{') {
		return false
	}
	for {
		if !f(s.key()) {
			return false
		}
		if s.is('}') {
			return true
		}
		if !s.is(',') {
			return false
		}
	}
}

// each reads an array, each value by f.
func (s *scanner) each(f func() bool) bool {
	if !s.is('[') {
		return false
	}
	for f() {
		if s.is(']') {
			return true
		}
		if !s.is(',') {
			return false
		}
	}
	return false
}

// list reads an array of strings.
func (s *scanner) list() bool { return s.each(s.str) }

func (s *scanner) boolean() bool {
	for _, w := range [...]string{"true", "false"} {
		if bytes.HasPrefix(s.b[s.i:], []byte(w)) {
			s.i += len(w)
			return true
		}
	}
	return false
}

// num reads a whole number of at most 18 digits.
func (s *scanner) num() (int64, bool) {
	start := s.i
	if !s.number() {
		return 0, false
	}
	var n int64
	for _, c := range bytes.TrimPrefix(s.b[start:s.i], []byte("-")) {
		n = n*10 + int64(c-'0')
	}
	if s.b[start] == '-' {
		n = -n
	}
	return n, true
}

func (s *scanner) number() bool {
	s.is('-')
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	n := s.i - start
	return n > 0 && n <= 18 && (n == 1 || s.b[start] != '0')
}

// count is num without a sign.
func (s *scanner) count() (uint64, bool) {
	if s.i < len(s.b) && s.b[s.i] == '-' {
		return 0, false
	}
	n, ok := s.num()
	return uint64(n), ok
}

// text reads a string without escapes, which lives as long as what is read.
func (s *scanner) text() (string, bool) {
	start := s.i + 1
	if !s.str() {
		return "", false
	}
	t := s.b[start : s.i-1]
	return unsafe.String(unsafe.SliceData(t), len(t)), bytes.IndexByte(t, '\\') < 0
}

// str reads any string.
func (s *scanner) str() bool {
	if !s.is('"') {
		return false
	}
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return true
		case c < 0x20:
			return false
		case c != '\\':
			s.i++
		default:
			if !s.escape() {
				return false
			}
		}
	}
	return false
}

func (s *scanner) escape() bool {
	if s.i+1 >= len(s.b) {
		return false
	}
	c := s.b[s.i+1]
	s.i += 2
	if c != 'u' {
		return bytes.IndexByte([]byte(`"\/bfnrt`), c) >= 0
	}
	if len(s.b)-s.i < 4 {
		return false
	}
	_, err := strconv.ParseUint(string(s.b[s.i:s.i+4]), 16, 16)
	s.i += 4
	return err == nil
}

// skip reads any value.
func (s *scanner) skip() bool {
	depth := 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			if !s.str() {
				return false
			}
		case c == '{' || c == '[':
			depth++
			s.i++
			continue
		case c == '}' || c == ']':
			depth--
			s.i++
		case depth == 0 && c == ',':
			return false // a value was expected
		case c == ',' || c == ':':
			s.i++
			continue
		default:
			for s.i < len(s.b) && bytes.IndexByte([]byte(`,}]`), s.b[s.i]) < 0 {
				s.i++
			}
		}
		if depth <= 0 {
			return depth == 0
		}
	}
	return false
}
