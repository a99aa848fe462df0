package ocsf

import (
	"net/netip"
	"strconv"
	"unicode/utf8"
)

// Caps, so that no client can make an event large. Bytes of text before
// escaping, and entries of a list.
const (
	capName      = 512
	capText      = 2 << 10
	capStatement = 16 << 10
	capList      = 256
)

// enc appends JSON. It notes when it had to cut something.
type enc struct {
	b   []byte
	cut bool
}

// key begins a member: the comma is left out at the start of an object.
func (e *enc) key(k string) {
	if c := e.b[len(e.b)-1]; c != '{' {
		e.b = append(e.b, ',')
	}
	e.b = append(append(append(e.b, '"'), k...), `":`...)
}

func (e *enc) open(k string) { e.key(k); e.b = append(e.b, '{') }
func (e *enc) close()        { e.b = append(e.b, '}') }

// str writes a member, if there is something to write.
func (e *enc) str(k, v string, limit int) {
	if v != "" {
		e.key(k)
		e.quote(v, limit)
	}
}

// word writes a member whose value is a constant of this package.
func (e *enc) word(k, v string) {
	e.key(k)
	e.b = append(append(append(e.b, '"'), v...), '"')
}

func (e *enc) num(k string, v int64) {
	e.key(k)
	e.b = strconv.AppendInt(e.b, v, 10)
}

func (e *enc) count(k string, v uint64) {
	e.key(k)
	e.b = strconv.AppendUint(e.b, v, 10)
}

func (e *enc) yes(k string) {
	e.key(k)
	e.b = append(e.b, "true"...)
}

func (e *enc) list(k string, v []string) {
	if len(v) == 0 {
		return
	}
	e.key(k)
	e.b = append(e.b, '[')
	for i, s := range v {
		if i == capList {
			e.cut = true
			break
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.quote(s, capName)
	}
	e.b = append(e.b, ']')
}

func (e *enc) ip(k string, a netip.Addr) {
	e.key(k)
	e.b = append(a.Unmap().WithZone("").AppendTo(append(e.b, '"')), '"')
}

const hexDigits = "0123456789abcdef"

func (e *enc) hex(v []byte) {
	for _, c := range v {
		e.b = append(e.b, hexDigits[c>>4], hexDigits[c&15])
	}
}

func (e *enc) hex64(k string, v uint64) {
	e.key(k)
	e.b = append(e.b, '"')
	for i := 60; i >= 0; i -= 4 {
		e.b = append(e.b, hexDigits[v>>i&15])
	}
	e.b = append(e.b, '"')
}

// quote appends s as a JSON string of at most limit bytes of s: invalid UTF-8
// becomes U+FFFD, what is cut ends in an ellipsis.
func (e *enc) quote(s string, limit int) {
	e.b = append(e.b, '"')
	if len(s) > limit {
		e.cut = true
		n := limit
		for n > limit-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		e.escape(s[:n])
		e.b = append(e.b, "…"...)
	} else {
		e.escape(s)
	}
	e.b = append(e.b, '"')
}

func (e *enc) escape(s string) {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			e.b = append(e.b, s[start:i]...)
			switch c {
			case '"', '\\':
				e.b = append(e.b, '\\', c)
			case '\n':
				e.b = append(e.b, `\n`...)
			case '\t':
				e.b = append(e.b, `\t`...)
			case '\r':
				e.b = append(e.b, `\r`...)
			default:
				e.b = append(e.b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			e.b = append(append(e.b, s[start:i]...), `\ufffd`...)
		case r == 0x2028 || r == 0x2029: // line ends in JavaScript
			e.b = append(append(append(e.b, s[start:i]...), `\u202`...), hexDigits[r&15])
		default:
			i += n
			continue
		}
		i += n
		start = i
	}
	e.b = append(e.b, s[start:]...)
}
