package postgres

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgproto3/v2"
)

// decode is m.Decode for bytes that may be anything: pgproto3 v2 indexes past
// the end of some messages that are too short.
func decode(m interface{ Decode([]byte) error }, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("postgres: undecodable message: %v", p)
		}
	}()
	return m.Decode(body)
}

// report is what an ErrorResponse or NoticeResponse says (both have the same
// fields), taken apart.
type report struct{ m pgproto3.ErrorResponse }

func readReport(body []byte) (*report, error) {
	r := new(report)
	if err := decode(&r.m, body); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *report) fatal() bool {
	s := r.m.SeverityUnlocalized
	if s == "" {
		s = r.m.Severity
	}
	return s == "FATAL" || s == "PANIC"
}

// append appends the report again as a message of type typ ('E' or 'N').
func (r *report) append(b []byte, typ byte) []byte {
	at := len(b)
	b = encode(b, &r.m)
	b[at] = typ
	return b
}

// encode appends an ErrorResponse. pgproto3 fails only above 1 GiB, where
// nothing of ours gets.
func encode(b []byte, m *pgproto3.ErrorResponse) []byte {
	out, err := m.Encode(b)
	if err != nil {
		panic(err)
	}
	return out
}

// unmapped takes away positions in a text that the client never saw.
func (r *report) unmapped() {
	r.m.Position, r.m.InternalPosition, r.m.InternalQuery = 0, 0, ""
}

// withhold takes away the text of definitions: what a function was running, and
// the lines of a context that quote it. It reports whether there was any.
func (r *report) withhold() bool {
	if r.m.InternalQuery == "" && !strings.Contains(r.m.Where, "SQL") { // a word of all languages
		return false
	}
	var where []string
	for line := range strings.SplitSeq(r.m.Where, "\n") {
		if line == "" || traced.MatchString(line) {
			where = append(where, line)
		}
	}
	kept := strings.Join(where, "\n")
	if kept == r.m.Where && r.m.InternalQuery == "" {
		return false
	}
	r.m.Where, r.m.InternalPosition, r.m.InternalQuery = kept, 0, ""
	return true
}

// traced are the lines of a context that quote nothing but a function's name.
var traced = regexp.MustCompile(`^(PL/pgSQL function \S+ (line \d+ at [A-Za-z ]+|during [a-z ]+|while [a-z ]+)|SQL function "[^"]*" (statement \d+|during [a-z]+))$`)

// sanitize leaves severity and SQLSTATE, and says the SQLSTATE in words: no
// name, value or place of the server's own text.
func (r *report) sanitize() {
	r.m = pgproto3.ErrorResponse{
		Severity: r.m.Severity, SeverityUnlocalized: r.m.SeverityUnlocalized, Code: r.m.Code,
		Message: condition(r.m.Code),
		Detail:  "The server's own words are withheld by sallyport: they could tell of protected data.",
	}
}

// conditions are the frequent ones of appendix A, in words; classes stand for
// the rest.
var conditions = map[string]string{
	"22001": "value too long for type", "22003": "numeric value out of range", "22007": "invalid date or time format",
	"22008": "date or time field overflow", "22012": "division by zero", "22023": "invalid parameter value",
	"22P02": "invalid text representation", "22P03": "invalid binary representation",
	"23502": "null value violates a not-null constraint", "23503": "foreign key violation", "23505": "unique violation",
	"23514": "check violation", "23P01": "exclusion violation", "25001": "active SQL transaction",
	"25006": "read-only transaction", "25P02": "current transaction is aborted", "40001": "could not serialize access",
	"40P01": "deadlock detected", "42501": "permission denied", "42601": "syntax error", "42703": "undefined column",
	"42704": "undefined object", "42803": "grouping error", "42804": "datatype mismatch", "42883": "undefined function",
	"42P01": "undefined table", "55P03": "lock not available", "57014": "canceling statement",
	"22": "data exception", "23": "integrity constraint violation", "25": "invalid transaction state",
	"26": "invalid SQL statement name", "34": "invalid cursor name", "40": "transaction rollback",
	"42": "syntax error or access rule violation", "53": "insufficient resources", "54": "program limit exceeded",
	"55": "object not in prerequisite state", "57": "operator intervention", "58": "system error",
	"01": "warning", "00": "notice", "P0": "error in a function", "XX": "internal error", "0A": "feature not supported",
}

func condition(code string) string {
	if s := conditions[code]; s != "" {
		return s
	}
	if len(code) > 2 {
		if s := conditions[code[:2]]; s != "" {
			return s
		}
	}
	return "the statement failed"
}
