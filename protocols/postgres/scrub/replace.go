package scrub

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Keeps reports whether values can be told from NULL in the data, whatever they are. In
// text NULL is what the client says it is, and a value may be the same.
func (c *Copy) Keeps() bool {
	return c.Format == CopyBinary || c.Format == CopyCSV || c.Format == CopyText && c.Null == `\N`
}

// Replacer puts other values in the place of those of some columns of COPY's data.
// What it writes does not depend on how the value that was there was written: a quote
// around it would tell of what is in it.
type Replacer struct {
	Width   int   // of a row
	Columns []int // in order

	// Value appends what stands in the place of a value of Columns[i] that is not NULL; ok
	// is false for NULL. Both are as the type is written, without what COPY adds.
	Value func(dst []byte, i int, value []byte) (out []byte, ok bool)

	plain, shown []byte
}

// maxKept bounds the buffers that are kept from one message to the next.
const maxKept = 1 << 20

// Rows appends the rows of one message of COPY's data, with their values replaced. first
// says that it is the first one. It fails on data of another form than c, on rows of
// another width, and where a header does not call the columns by their names.
func (r *Replacer) Rows(dst, data []byte, c *Copy, first bool) (out []byte, err error) {
	if cap(r.plain) > maxKept {
		r.plain = nil
	}
	switch c.Format {
	case CopyText, CopyCSV:
		for head := first && c.Header; len(data) > 0; head = false {
			if dst, data, err = r.line(dst, data, c, head); err != nil {
				return nil, err
			}
		}
		return dst, nil
	case CopyBinary:
		return r.binary(dst, data, first)
	}
	return nil, errCopy
}

// line takes one row of text off data.
func (r *Replacer) line(dst, data []byte, c *Copy, head bool) (out, rest []byte, err error) {
	next := 0
	for column := 0; ; column++ {
		n, null, err := r.field(data, c)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case next == len(r.Columns) || r.Columns[next] != column:
			dst = append(dst, data[:n]...)
		case head:
			if column >= len(c.Columns) || string(r.plain) != c.Columns[column] {
				return nil, nil, errCopy
			}
			dst = append(dst, data[:n]...)
			next++
		default:
			shown, ok := r.shown[:0], false
			if !null {
				shown, ok = r.Value(shown, next, r.plain)
			}
			r.shown = shown[:0]
			dst = r.write(dst, shown, ok, c, column)
			next++
		}
		dst = append(dst, data[n])
		last := data[n] == '\n'
		if data = data[n+1:]; !last {
			continue
		}
		if column+1 != r.Width {
			return nil, nil, errCopy
		}
		return dst, data, nil
	}
}

// field reads the field that data begins with into r.plain. n is how much of data it is
// in, without what ends it, which is there.
func (r *Replacer) field(data []byte, c *Copy) (n int, null bool, err error) {
	if c.Format == CopyText {
		return r.textField(data, c)
	}
	return r.csvField(data, c)
}

func (r *Replacer) textField(data []byte, c *Copy) (n int, null bool, err error) {
	plain := r.plain[:0]
	i := 0
	for ; i < len(data) && data[i] != '\n' && data[i] != c.Delimiter; i++ {
		b := data[i]
		if b != '\\' {
			plain = append(plain, b)
			continue
		}
		if i++; i == len(data) {
			return 0, false, errCopy
		}
		switch b = data[i]; {
		case i == 1 && b == 'N':
			null = true
		case b == '\\' || b == c.Delimiter:
		case bytes.IndexByte([]byte(letters), b) >= 0:
			b = unescaped(b)
		default:
			return 0, false, errCopy
		}
		plain = append(plain, b)
	}
	r.plain = plain
	if i == len(data) || null && i != 2 {
		return 0, false, errCopy
	}
	return i, null, nil
}

func (r *Replacer) csvField(data []byte, c *Copy) (n int, null bool, err error) {
	plain := r.plain[:0]
	defer func() { r.plain = plain }()
	if len(data) == 0 || data[0] != c.Quote {
		n = bytes.IndexByte(data, '\n')
		if n < 0 {
			return 0, false, errCopy
		}
		if d := bytes.IndexByte(data[:n], c.Delimiter); d >= 0 {
			n = d
		}
		if bytes.IndexByte(data[:n], c.Quote) >= 0 {
			return 0, false, errCopy
		}
		plain = append(plain, data[:n]...)
		return n, string(plain) == c.Null, nil
	}
	for i := 1; i < len(data); i++ {
		b := data[i]
		switch {
		case b == c.Escape && i+1 < len(data) && (data[i+1] == c.Quote || data[i+1] == c.Escape):
			i++
			b = data[i]
		case b == c.Quote:
			if i++; i == len(data) || data[i] != c.Delimiter && data[i] != '\n' {
				return 0, false, errCopy
			}
			return i, false, nil
		}
		plain = append(plain, b)
	}
	return 0, false, errCopy
}

// write appends a value as COPY writes it, or NULL.
func (r *Replacer) write(dst, value []byte, ok bool, c *Copy, column int) []byte {
	switch {
	case !ok:
		return append(dst, c.Null...)
	case c.Format == CopyText:
		for _, b := range value {
			dst = appendEscaped(dst, b, c.Delimiter)
		}
		return dst
	case !r.quotes(value, c, column):
		return append(dst, value...)
	}
	dst = append(dst, c.Quote)
	for _, b := range value {
		if b == c.Quote || b == c.Escape {
			dst = append(dst, c.Escape)
		}
		dst = append(dst, b)
	}
	return append(dst, c.Quote)
}

// quotes reports whether the server would quote a value (CopyAttributeOutCSV of
// src/backend/commands/copyto.c).
func (r *Replacer) quotes(value []byte, c *Copy, column int) bool {
	if c.QuotesAll || column < len(c.Columns) && slices.Contains(c.Quotes, c.Columns[column]) ||
		string(value) == c.Null || r.Width == 1 && string(value) == `\.` {
		return true
	}
	for _, b := range value {
		if b == c.Delimiter || b == c.Quote || b == '\n' || b == '\r' {
			return true
		}
	}
	return false
}

func (r *Replacer) binary(dst, data []byte, first bool) ([]byte, error) {
	i := 0
	if first {
		n, err := header(data)
		if err != nil {
			return nil, err
		}
		dst = append(dst, data[:n]...)
		i = n
	}
	for i < len(data) {
		if len(data)-i < 2 {
			return nil, errCopy
		}
		n := int(int16(binary.BigEndian.Uint16(data[i:])))
		dst = append(dst, data[i:i+2]...)
		if i += 2; n == -1 && i == len(data) {
			return dst, nil
		}
		if n != r.Width {
			return nil, errCopy
		}
		next := 0
		for column := range n {
			size, end, err := binaryField(data, i)
			if err != nil {
				return nil, err
			}
			if next == len(r.Columns) || r.Columns[next] != column {
				dst = append(dst, data[i:end]...)
			} else {
				at, ok := len(dst), size >= 0
				dst = append(dst, 0xff, 0xff, 0xff, 0xff) // NULL
				if ok {
					var out []byte
					if out, ok = r.Value(dst, next, data[i+4:end]); ok {
						dst = out
						binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
					}
				}
				next++
			}
			i = end
		}
	}
	return dst, nil
}

// header returns the size of what binary data begins with.
func header(data []byte) (int, error) {
	head := len(signature) + 8
	if len(data) < head || string(data[:len(signature)]) != signature {
		return 0, errCopy
	}
	more := int64(binary.BigEndian.Uint32(data[head-4:]))
	if more > int64(len(data)-head) {
		return 0, errCopy
	}
	return head + int(more), nil
}
