// Package mask holds the masks: what each one shows in place of a value, as
// SQL that the server computes at the source, and as a function over text for
// stores whose language cannot be rewritten. One table of tests holds both
// forms together. NULL stays NULL in both.
//
//	           takes           text             numbers     dates   json   other types
//	redact     constant        constant         constant*   c*      shape  c*, arrays {}
//	null                       NULL             NULL        NULL    NULL   NULL
//	partial    first, last     ***-**-6789      -           -       -      -
//	year       earliest        -                -           year    -      -
//	bucket     width or unit   -                lower end   unit    -      time by the hour
//	zip3                       021**            2100        -       -      -
//	email                      a***@***.org     -           -       -      -
//	phone                      (***) ***-0143   143         -       -      -
//	ssn                        ***-**-6789      6789        -       -      -
//	pan                        **** 1234        1234        -       -      -
//	json       keep            -                -           -       paths  -
//
// A dash is NULL; constants with a star are shown where they are declared and
// are values of the type. Masks of an array are those of its elements. Types
// are PostgreSQL's built-in ones and enums, domains are what they are made of.
// What is shown has the type of the column, with its modifier.
//
// Keyed masks have no SQL form, since a key in SQL could be read back. On output
// a Masker shows them; where there is none they are redact.
//
//	hash     32 hexadecimal digits of an HMAC-SHA-256, for text; else NULL
//	token    "tok_" and 16 characters for text, a uuid for a uuid, a number for
//	         int4 and int8; else NULL
//	format   text of the same form, by FF1 of NIST SP 800-38G; else NULL
//	fake     a name, street, city or email address from a list, for text
package mask
