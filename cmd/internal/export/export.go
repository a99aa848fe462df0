// Package export writes a recorded session in forms that other programs read.
// What was recorded was chosen by an agent or came out of a database: each form
// carries it as data and nothing else.
package export

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// Session is what is written: all that is known of it, and its transcript in
// order.
type Session struct {
	recorder.Detail
	Chunks iter.Seq2[events.Chunk, error]
	// Statement is the one whose rows are wanted, 0 for all that was said. Only
	// CSV, which has one table, asks for it.
	Statement uint64
}

// formats by name.
var formats = map[string]func(io.Writer, *Session) error{
	"jsonl":     jsonl,
	"csv":       table,
	"asciicast": asciicast,
	"pcapng":    pcapng,
}

// Formats are the names that Write knows.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

// Write writes the session in a format.
func Write(w io.Writer, format string, s *Session) error {
	f := formats[format]
	if f == nil {
		return fmt.Errorf("no format %q: there are %s", format, strings.Join(Formats(), ", "))
	}
	if s.Statement != 0 && format != "csv" {
		return fmt.Errorf("%s has the whole session: --statement is for csv", format)
	}
	return f(w, s)
}

// errProtocol: the results of a protocol can't be taken apart.
func errProtocol(protocol string) error {
	return fmt.Errorf("rows of protocol %q can't be told from each other: export it as jsonl or asciicast", protocol)
}
