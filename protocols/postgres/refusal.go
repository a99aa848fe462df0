package postgres

import (
	"fmt"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// SQLSTATEs of refusals (PostgreSQL 15, appendix A).
const (
	codePrivilege   = "42501" // a rule, or the default
	codeUnsupported = "0A000" // not understood
	codeIdentity    = "28000"
	codePassword    = "28P01" // invalid_password
	codeUnrecorded  = "53100" // disk_full
	codeBusy        = "53400" // configuration_limit_exceeded
	codeProtocol    = "08P01"
	codeShutdown    = "57P01" // admin_shutdown
	codeUnavailable = "08006" // connection_failure
	codeNoStatement = "26000"
	codeNoPortal    = "34000"
	codeCancelled   = "57014" // query_canceled
	codeAwaits      = "SPA01" // of sallyport's own: it needs an approval
	codeDenied      = "SPA02" // ... which was denied
	codeInternal    = "XX000"
	codeFailed      = "25P02" // in_failed_sql_transaction: the server's own
)

// Of requests that are no analysed statement.
var (
	plain  = &query.Analysis{}
	opaque = &query.Analysis{Opaque: "not a statement"}
)

// refusal is an error in the protocol's own form. It holds no data but what
// the client sent itself.
type refusal struct {
	code, message, hint string

	native   bool     // the server's own error: a client of the server alone would read it
	position int      // in the client's text, in characters from 1; 0: none
	rules    []string // that decided, if any
	session  string   // its ID, where there is a record

	approval *policy.Standing // for want of which it is refused; nil: that is not why

	number uint64           // of the statement; 0: it has no record
	record policy.Recording // of its number
	fails  bool             // its event says that it was allowed: its outcome is an error
	late   bool             // where the transaction has failed the server says that instead
}

// append appends the ErrorResponse.
func (r *refusal) append(b []byte, severity string) []byte {
	return encode(b, &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: r.code,
		Message: r.message, Detail: r.detail(), Hint: r.hint, Position: int32(r.position),
	})
}

// refused puts a Decision, or the failure to get one, into the client's words.
// an is what is known of the statement.
func (c *conn) refused(d policy.Decision, err error, an *query.Analysis) *refusal {
	if err != nil {
		return &refusal{
			code:    codeUnrecorded,
			message: "sallyport: refused: " + policy.ErrUnrecorded.Error(),
			hint:    "Ask the administrator of this host to look at sallyport's journal (sallyport doctor).",
		}
	}
	r := c.refusing(d.Rules(), d.Reason(), d.Remedy(), d.Record(), an)
	if d.Reached() {
		r.code = codeBusy
	}
	r.unapproved(d)
	return r
}

// refusing puts why something is refused into the client's words.
func (c *conn) refusing(rules []string, reason, remedy string, rec policy.Recording, an *query.Analysis) *refusal {
	r := &refusal{
		code: codePrivilege, message: "sallyport: refused: " + reason, hint: remedy,
		rules: rules, session: c.pol.Event.ID, number: c.number, record: rec,
	}
	switch {
	case len(rules) == 1 && rules[0] == "identity":
		r.code = codeIdentity
	case (an.Code == query.NoTable || an.Code == query.NoFunction || an.Code == query.NoType) && c.ddl.unseen():
		// It may be one that this transaction made.
		r.code = codeUnsupported
		if c.ddl.seen == 0 {
			r.hint = unseenRemedy
		}
	case an.Code != "":
		r.code, r.message, r.hint, r.native, r.position = an.Code, an.Opaque, "", true, an.Position
		r.late = an.Code != query.SyntaxError // the grammar comes first
	case an.Opaque != "":
		r.code = codeUnsupported
	}
	return r
}

// notKnown is the server's own error for a name that it does not know.
func notKnown(portal bool, name []byte) *refusal {
	name = name[:min(len(name), 256)]
	switch {
	case portal:
		return &refusal{native: true, late: true, code: codeNoPortal, message: fmt.Sprintf("portal \"%s\" does not exist", name)}
	case len(name) == 0:
		return &refusal{native: true, late: true, code: codeNoStatement, message: "unnamed prepared statement does not exist"}
	}
	return &refusal{native: true, late: true, code: codeNoStatement, message: fmt.Sprintf("prepared statement \"%s\" does not exist", name)}
}

// decoy appends, in place of what is refused, a message that the server must
// answer with an error: a Query, or a Parse of a name that nobody uses. It is a
// syntax error or, late, a column of nothing, which the server looks at only where the
// transaction has not failed. The text tells the server's log what happened.
func (c *conn) decoy(b []byte, simple, late bool) []byte {
	text := fmt.Sprintf("sallyport_refused session %s statement %d", c.pol.Event.ID, c.number)
	if late {
		text = `SELECT "sallyport_refused" -- ` + text
	}
	if simple {
		b, at := begin(b, 'Q')
		return finish(appendString(b, text), at)
	}
	b, at := begin(b, 'P')
	b = appendString(b, "sallyport_refused_"+c.pol.Event.ID)
	b = appendString(b, text)
	return finish(append(b, 0, 0), at)
}
