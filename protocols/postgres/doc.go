// Package postgres serves sessions of PostgreSQL's protocol, version 3.0
// (PostgreSQL 15, chapter 55).
//
// Two goroutines serve a session. One reads the client: it walks the frames,
// says what each is, has it decided and sends it or, in its place, a statement
// that must fail. The other reads the server: it holds each message against
// the step that it must answer, changes what must be changed, records and
// passes on. Between them stands a queue of steps, one for each message that
// the server answers; an answer that no step expects ends the session.
//
// # A refusal goes through the server
//
// In place of a refused statement the server is sent one that is a syntax
// error, and its error is replaced by the refusal. Order, pipelines, implicit
// and failed transactions stay the server's own.
//
// # When a statement is decided
//
// A Query is decided when it arrives. A Parse is decided as a request to
// prepare, which leaves no event unless it is refused. A Bind is decided again,
// with an event, since planning may run code of the statement; the first
// Execute of its portal goes with it if it is still allowed, and each further
// one is a statement of its own. EXECUTE and FETCH are decided by what their
// name stands for when they run.
//
// # Names
//
// SQL's PREPARE and DECLARE and the protocol's Parse and Bind share their names.
// A name changes its meaning here when the server confirms it; a message that
// uses a name whose change is still under way in another batch waits for it. A
// name that is not known here is refused. Where everything is relayed it is
// passed on, and recorded as not known.
//
// # Not understood
//
// TLS and GSS encryption are answered N. FunctionCall and replication are
// refused unless a policy allows them. Messages above 16 MiB are refused.
// Authentication by Kerberos, GSSAPI and SSPI ends the session.
//
// What a transaction has changed in the catalog is read inside of it, by
// statements of our own between two of the client's messages. Where its isolation
// level is not READ COMMITTED, and within one text of several statements, what it
// makes is not known until it commits.
package postgres
