// Package scrub puts what detectors find in PostgreSQL's values out of sight: the
// kind in brackets, such as [ssn], stands in the place of each finding, and what
// is around it keeps its form (quotes, escapes, separators, lengths). A value
// whose form is not known is NULL where something is found in it.
//
// It knows the forms of values in rows (text and binary: doc/src/sgml/array.sgml,
// rowtypes.sgml, the send functions of src/backend/utils/adt) and of COPY
// (doc/src/sgml/ref/copy.sgml).
package scrub
