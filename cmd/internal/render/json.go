package render

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport.dev/sallyport/internal/visible"
)

// JSON returns the same JSON with every character escaped that Line would not show as
// it is: direction marks and what is invisible stand in strings only.
func JSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\n' || visible.Rune(r) && r != utf8.RuneError:
			out = append(out, b[:n]...)
		case r > 0xffff:
			x, y := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, x, y)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out
}
