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
// Keyed masks have no SQL form, since a key in SQL could be read back. On output
// a Masker shows them; where there is none they are redact.
//
//	hash     32 hexadecimal digits of an HMAC-SHA-256, for text; else NULL
//	token    "tok_" and 16 characters for text, a uuid for a uuid, a number for
//	         int4 and int8; else NULL
//	format   text of the same form, by FF1 of NIST SP 800-38G; else NULL
//	fake     a name, street, city or email address from a list, for text
//
// Types are PostgreSQL's names of built-in types. Where nothing is known of a
// type, the mask is NULL.
package mask
