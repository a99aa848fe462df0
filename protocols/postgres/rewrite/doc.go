// Package rewrite analyses PostgreSQL statements against a catalog snapshot
// and a policy.Scope, and generates what is sent instead of them: every
// reference to a relation with protected columns becomes a sub-select that
// shows masks in their place. It refuses what it does not understand.
//
// # Whose text is sent
//
// Where nothing guarded is read the client's own bytes go out, so that error
// positions, comments and logs are as if there were no proxy. The parser
// speaks PostgreSQL 17. Majors 13 to 18 are taken: what they read otherwise is
// either refused by one of the two (new syntax, numbers such as 1_000 in 15),
// or in nodes that this package refuses anyway (SQL/JSON, JSON_TABLE), or looked
// after in major.go: RETURNING old and new, numbers before 15, names that
// became keywords. A text that the parser refuses is opaque, whatever the
// server would say. Other majors: every statement is opaque.
//
// Where something guarded is read, the SQL is generated from the analysed
// tree, parsed again and compared with it node by node (package parser).
//
// # Names
//
// Relations resolve without search_path: a name is all relations of that name
// in all schemas. If one of them is guarded and another exists, or a new table
// would take the name, the statement is refused. A WITH query has its name where
// it is in scope, and there alone. Guarded relations are sent qualified.
//
// Columns need no resolution: the sub-select has the relation's own columns
// under the relation's own name, as many of them as are mentioned anywhere in
// the statement, and the server resolves against those. Stars, whole rows,
// NATURAL JOIN and positional aliases ask for all of them.
//
// # Views
//
// A view is a relation of its own. Its columns take the masks of the columns
// they pass through; columns computed from protected ones, or that do not
// resolve, are NULL. A view's own predicate is its owner's and acts on stored
// values. Views, policies, defaults, checks and triggers that call functions
// which neither are harmless built-ins nor declared by the policy make the
// relation opaque.
package rewrite
