// Package mask holds the masks: what each one shows in place of a value, as
// SQL that the server computes at the source, and as a function over text for
// stores whose language cannot be rewritten. One table of tests holds both
// forms together. NULL stays NULL in both.
//
//	redact   a constant, for text; NULL for other types
//	null     NULL
//	partial  text with all but its ends and its separators hidden; else NULL
//	year     the first moment of a date's year; NULL for other types
//
// Types are PostgreSQL's names of built-in types. Where nothing is known of a
// type, the mask is NULL.
package mask
