package policy

import (
	"context"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

// Session is the who and where of requests, used by one goroutine at a time.
// All but the identity is fixed once the login is decided.
type Session struct {
	Identity intercept.Identity // replaced by Renew and Become only
	Peer     intercept.Peer
	Resource string            // name in sallyport.yaml
	Protocol string            // "postgres"
	Labels   map[string]string // of the resource

	// What the client says of itself: never who it is. Where the passage logs in
	// in its place, User is the account's.
	User, Database, Application string

	Event *events.Session // the same facts, as the record tells them; replaced by Become only

	justification string // see Justify

	began  time.Time         // when its login was allowed
	meters map[string]*meter // of this session, by rule

	scope   *Scope // kept while it is static, for engine
	engine  *Engine
	scratch events.Event // of the Gate's latest decision
}

// Renew replaces the identity by a later proof of the same one.
func (s *Session) Renew(id intercept.Identity) { s.Identity, s.scope = id, nil }

// Become replaces the identity by the same workload's for another principal.
// Events from now on carry a copy of Event that tells of them; what was told
// before stays as it is.
func (s *Session) Become(id intercept.Identity) {
	s.Renew(id)
	s.justification = "" // it was somebody else's
	s.Event = s.Event.Copy()
	Tell(s.Event, &id)
}

// Tell says on the record who it is and how that was proved.
func Tell(e *events.Session, id *intercept.Identity) {
	proved := func(p intercept.Proved) events.Proved { return events.Proved{By: p.By, Bound: p.Bound} }
	e.Workload, e.SPIFFE, e.Actor, e.Actors, e.Principal = id.Workload, id.SPIFFE, id.Actor(), id.Actors, id.Principal()
	e.Issuer, e.PrincipalIssuer, e.Proof, e.Expires = id.Issuer, id.PrincipalIssuer(), id.Proof, id.Expires
	e.WorkloadProof, e.ActorProof, e.PrincipalProof = proved(id.Proofs.Workload), proved(id.Proofs.Actor), proved(id.Proofs.Principal)
	e.Pooled = id.Pooled()
}

// Access is what a statement does to an object.
type Access uint8

const (
	_ Access = iota
	Read
	Insert
	Update
	Delete
	Truncate
	Define // DDL
	Lock
)

var accessNames = [...]string{Read: "read", Insert: "insert", Update: "update", Delete: "delete", Truncate: "truncate", Define: "define", Lock: "lock"}

// String returns the name that policies use, "" for zero.
func (a Access) String() string {
	if int(a) < len(accessNames) {
		return accessNames[a]
	}
	return ""
}

// ParseAccess is the inverse of String.
func ParseAccess(s string) (Access, bool) {
	for i, n := range accessNames {
		if n != "" && n == s {
			return Access(i), true
		}
	}
	return 0, false
}

// Object is a relation (or what a protocol has in its place) that a request
// touches, resolved: Schema is never guessed from a search path.
type Object struct {
	Schema, Name string
	Access       Access
}

// String returns schema.name.
func (o Object) String() string { return o.Schema + "." + o.Name }

// Rename is of a relation that rules know by a name, or by that of one that its rows are
// a part of, and would know by another.
type Rename struct{ From, To Relation }

// RequestKind sorts requests.
type RequestKind uint8

const (
	_            RequestKind = iota
	Login                    // the start of a session
	StatementReq             // a statement is to be executed
	PrepareReq               // a statement is to be parsed by the server, not run
	FunctionCall             // a call by number, past the language
	Replication              // a replication session
	Undecoded                // a session that can't be read: its TLS is with the server itself
)

// Request is one thing that a client wants done. The Gate keeps no reference
// to it after Decide returns.
type Request struct {
	Session *Session
	Kind    RequestKind
	Now     time.Time // arrival

	Number      uint64   // the statement's ordinal in the session, from 1
	Commands    []string // lower-case command names, one per statement: "select", "copy_to", "delete", ...
	Text        string   // the exact statement; goes to conditions, never to an event
	Normalized  string
	Fingerprint uint64
	Literals    []events.Digest

	Objects []Object
	// Kin is what else these are: relations whose rows are, in part, rows of Objects, by
	// inheritance and partitions, up and down; those whose rows are changed with theirs;
	// and former names of any of them. A rule that takes away from these takes away.
	Kin []Object
	Via []Object // of each of Kin, which of Objects is or reaches it
	// Renames are what would be other relations to rules by it.
	Renames []Rename
	Masked  []events.Field // protected fields that the rewrite masks
	// Matched are those of them that are compared by their stored values, with
	// Lookups values in all.
	Matched []events.Field
	Lookups int64
	// Filtered are the relations of which the rewrite leaves rows out.
	Filtered []Relation
	Writes   bool // may change data
	// Untold is why it can't be told of all rows that go out whose they are, "" where
	// it can, or nothing asks.
	Untold string
	// Opaque is why the statement is not fully understood, "" when it is.
	// Remedy, when set, goes to the client with it.
	Opaque, Remedy string
	// Unproved is why the person whom it claims to be for can't be believed, ""
	// where that is no question: it is refused, whatever the rules say.
	Unproved string

	// Scope is what the statement was analysed in, nil for a request without
	// an analysis. The Gate refuses if another one holds by now, and sets it
	// to the session's for the Engine.
	Scope *Scope

	// Wording tells the rest of what the statement exactly is, where it may have
	// to be approved; nil: its text is all.
	Wording Wording
	// Under are the approvals under which what it goes on with was opened. Not nil:
	// a PrepareReq of something that was, which runs if they are still enough.
	Under *Cover
	// Estimate tells how much the statement is about, in bounded time, and changes
	// nothing; nil: nobody can tell.
	Estimate func(context.Context) Estimate
	// OnHold is told that the request waits for an approval. What it returns ends
	// when the client waits no more (its cause is one of the errors for that), and
	// done is called at the end of the wait. nil: it never waits.
	OnHold func(context.Context, Held) (wait context.Context, done func())

	// Would is the same request as an analysis in Scope.Would has it; nil: there is
	// no such analysis.
	Would *Request

	// Memo, when not nil, lets the Gate keep the verdict with whatever the
	// caller caches the analysis in.
	Memo *Memo
}

// Recording says how much of a statement goes into the transcript. Zero is
// the default: everything, up to DefaultRecordLimit per statement.
type Recording struct {
	Level RecordLevel
	Limit int64 // bytes of result per statement; 0 is DefaultRecordLimit
}

// DefaultRecordLimit is the part of a statement's result that a transcript
// holds unless policy says otherwise, in bytes.
const DefaultRecordLimit = 1 << 20

// RecordLevel orders how much is recorded.
type RecordLevel uint8

const (
	RecordFull      RecordLevel = iota // statement, binds and result
	RecordStatement                    // statement and binds
	RecordEvents                       // events only
)
