// Package query is what the PostgreSQL session asks of the analysis: what a
// text does, and what is to be sent in its place. protocols/postgres/rewrite
// implements it; the session knows only this vocabulary.
package query

import (
	"context"
	"errors"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// Analyzer analyses statements of one database on one server. It is safe for
// concurrent use.
type Analyzer interface {
	// Analyze never fails open: what it does not understand comes back with
	// Opaque set. The result is shared and must not be changed. An error
	// means that no analysis was possible (the parser died, the catalog could
	// not be read) and refuses the statement.
	Analyze(ctx context.Context, in Input) (*Analysis, error)
	// Version identifies the catalog snapshot in use, among those of all
	// analyzers of the process. Analyses of another version must be made again
	// before their statement runs again.
	Version() uint64
	// Refresh reads the catalog again if it changed: after DDL.
	Refresh(ctx context.Context) error
	// Protected reports whether a column, by what a RowDescription says of
	// it, is protected in the scope: its stored value must not go out.
	Protected(table uint32, attnum int16, sc *policy.Scope) bool
	// Column names a column by what a RowDescription says of it; the zero Field
	// where it is none of a relation, or is not known.
	Column(table uint32, attnum int16) events.Field
}

// Insider is an Analyzer that can see what a transaction has changed that is still
// open.
type Insider interface {
	// Within returns an Analyzer that analyses as the transaction sees the
	// catalog; it is of no use when the transaction has gone on to change more,
	// or the Insider's own Version has changed. ask runs statements inside the
	// transaction, each on its own, and returns their rows in the text format. An
	// error means that the transaction's changes can't be told: statements that
	// depend on them are to be refused.
	Within(ctx context.Context, ask func(ctx context.Context, sql ...string) ([]Rows, error)) (Analyzer, error)
	// Apart returns an Analyzer for a session that may have temporary relations: of
	// the catalog as it is now, and of a Version that no analysis was made for. It is
	// of no use when the Insider's own Version has changed. nil: there are none.
	Apart() Analyzer
}

// ErrUnseen: within this transaction the catalog can't be seen as it is.
var ErrUnseen = errors.New("query: what the transaction has changed in the catalog can't be seen")

// Rows are the rows of one result, their values in the text format; nil is NULL.
type Rows = [][][]byte

// Input is a text to analyse, with what its meaning depends on.
type Input struct {
	SQL   string
	Scope *policy.Scope
	// Simple: it came in a Query message and may hold several statements.
	Simple bool
	// ParamTypes are the type OIDs that a Parse message declared.
	ParamTypes []uint32
	// Masks says that the caller masks what Analysis.Outputs names. Where it does
	// not, these columns are redacted in the statement.
	Masks bool
	// Subjects says that the caller takes the columns that Analysis.Subjects names off
	// the result. Where it does not, nobody is named.
	Subjects bool
	// Prepared returns the analysis of a prepared statement of the session by
	// its name (SQL PREPARE and protocol Parse share one name space), nil
	// when there is none. Cursor does the same for open cursors and portals.
	Prepared func(name string) *Analysis
	Cursor   func(name string) *Analysis
}

// SQLSTATEs of what the server would refuse itself (PostgreSQL 15, appendix A).
const (
	SyntaxError = "42601"
	NoTable     = "42P01" // undefined_table
	NoFunction  = "42883" // undefined_function
	NoType      = "42704" // undefined_object
	NoStatement = "26000" // invalid_sql_statement_name
	NoCursor    = "34000" // invalid_cursor_name
)

// Analysis is what is known of a text. Immutable but for Memo.
type Analysis struct {
	// SQL is generated from the analysed tree and is to be sent in place of
	// the client's text; "" when nothing protected is touched and the
	// client's own bytes go out.
	SQL string

	Commands []string // lower-case, one per statement: "select", "copy_to", "begin", ...
	Objects  []policy.Object
	// Kin is what else Objects are: relations that have rows of them as their own, or
	// give them theirs, or whose rows foreign keys change with them, and former names.
	Kin []policy.Object
	Via []policy.Object // of each of Kin, which of Objects is or reaches it
	// Renames are what rules would know by other names once it has run.
	Renames []policy.Rename
	// Meaning is, where it may have to be approved, a digest of the definitions of all
	// relations that it reaches, and of the functions that may run; Bodies are those of
	// the functions that it calls.
	Meaning string
	Bodies  []string
	Masked  []events.Field
	// Matched are fields that are compared by their stored values, with Lookups
	// values in all each time that it runs.
	Matched  []events.Field
	Lookups  int64
	Filtered []policy.Relation // of which rows are left out
	Writes   bool
	Opaque   string // why it is not fully understood: refuse wherever a rule could match
	Remedy   string
	// Code is the SQLSTATE of a text that the server would refuse itself, for
	// the reason that Opaque gives in the server's words (the others than
	// SyntaxError as far as the catalog and the session are known); else "".
	Code string
	// Position is where in the text, in characters from 1, what Code is of stands;
	// 0: not known.
	Position int

	// Outputs are the columns of the result that the server sends as they are
	// stored: no row of it may go out before they are masked. In order. The result
	// has Width columns; one that does not is not this statement's.
	Outputs []Output
	Width   int
	// Origins are columns of the result, of Width, that the statement shows masked and
	// that a client would take for columns of a relation. In order.
	Origins []Origin

	// Subjects are columns in front of those of the result, in order, that say whose its
	// rows are: they go on the record, hashed, and not to the client. Outputs, Origins
	// and Width count them.
	Subjects []Subject
	// Untold is why it can't be told of all rows that go out whose they are; "" where
	// it can, or policy does not ask.
	Untold string

	// Copies is how each COPY to the client that it holds writes its rows.
	Copies []scrub.Copy

	// Calls: it calls functions that are not built in.
	Calls bool
	// Plain: planning it runs nothing but functions that are built in, on relations of
	// this database.
	Plain bool

	// Sanitize: errors and notices of the statement could tell of protected
	// data; only severity, SQLSTATE and a generic message may pass.
	Sanitize bool
	// DDL: the catalog may differ once it has run.
	DDL bool
	// Prepares and Declares, Deallocates and Closes name what the statements do
	// to the session's prepared statements and cursors once the server confirms
	// them: first these are dropped ("*": all), then those are there.
	Prepares    map[string]*Analysis
	Declares    map[string]*Analysis
	Deallocates []string
	Closes      []string

	// Local: it depends on the session's names (EXECUTE, FETCH): not to be
	// shared with other sessions or kept.
	Local bool
	// ByValue: it depends on the value of a literal, and is of this very text
	// only. Otherwise it, and SQL but for the literals in it, is the same for
	// all texts that differ in plain literals of the same kinds.
	ByValue bool

	Version uint64 // of the catalog; 0: not to be kept
	ScopeID string
	Memo    policy.Memo
}

// Origin is what a RowDescription would say of a column, had it no mask.
type Origin struct {
	Index  int // among the columns, from 0
	Table  uint32
	Attnum int16
}

// Output is a column of a result whose mask is applied on output.
type Output struct {
	Index int // among the columns, from 0

	// What a RowDescription must say of it.
	Table  uint32
	Attnum int16
	OID    uint32 // of its type, without domains

	Type   string // that type's name, a built-in one's
	Length int    // that a text of it has at most, in characters; 0: any
	Mask   policy.Mask
	Of     policy.Relation // with Column, the field that the policy masks
	Column string
}

// Alike reports whether two columns have the same values shown the same.
func (o *Output) Alike(p *Output) bool {
	return o.OID == p.OID && o.Type == p.Type && o.Length == p.Length && o.Mask == p.Mask && o.Of == p.Of && o.Column == p.Column
}
