// Package render shows recorded text on a terminal. What was recorded was
// chosen by an agent or came out of a database: nothing of it may reach the
// terminal as anything but visible characters.
package render

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/internal/visible"
)

// Line returns s with everything made visible that is not printable: control
// characters, escape sequences, direction marks, invisible and broken
// characters, line ends too.
func Line(s string) string { return escape(s, "") }

// Text is Line for text of several lines: line ends and tabs stay.
func Text(s string) string { return escape(s, "\n\t") }

func escape(s, keep string) string {
	clean := true
	for _, r := range s {
		if !visible.Rune(r) || r == utf8.RuneError {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible.Rune(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		i += n
	}
	return b.String()
}
