// Package detect finds identifiers, payment data and credentials in text that
// nobody declared: the identifiers of HIPAA's safe harbor that have a form
// (45 CFR 164.514(b)(2)), and what opens accounts. A shape alone is rarely
// believed: numbers have check digits, areas and lengths, and where many things
// look alike, a word before them must say what they are.
//
// It is one pass over the bytes. A table says which bytes can be in the middle
// of something (digits, '@', ':', a few letters); between them nothing is
// looked at. A candidate reaches at most [Back] bytes back and [Ahead] bytes
// ahead of such a byte, so that a stream needs a window of that size and
// nothing else. Once buffers have grown, nothing is allocated.
//
// Names of people have no form, and are not found. docs/detectors.md says what
// is, and how well.
package detect
