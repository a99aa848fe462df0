// Package events is the vocabulary of the record: what is said about a
// session, how it is appended to the host's journal, and the promise that an
// append returns.
//
// This package knows no disk and no network. The leaves do: events/journal
// keeps the record, events/ocsf gives it its published form, events/jetstream
// ships it and events/recorder verifies and stores it.
package events
