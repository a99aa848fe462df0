package scrub

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// Copy is how COPY writes rows. The zero Copy is none.
type Copy struct {
	Format    CopyFormat
	Delimiter byte
	Quote     byte // of CSV
	Escape    byte // of CSV
	Null      string
	Header    bool
	QuotesAll bool     // of CSV: values of all columns are quoted
	Quotes    []string // or of these
	Columns   []string // what columns are called; nil where that is not known
}

// CopyFormat is one of COPY's formats.
type CopyFormat uint8

const (
	_ CopyFormat = iota
	CopyText
	CopyCSV
	CopyBinary
)

// errCopy: the data is not what the statement asks for.
var errCopy = errors.New("COPY data is not in the form that was asked for")

// Rows scrubs the rows of one message of COPY's data. first says that it is the
// first one. The types of columns are not known here: text is scrubbed as it
// looks. Columns in but, by their places, are left alone.
func (s *Scrubber) Rows(dst, data []byte, c *Copy, first bool, but ...int) ([]byte, error) {
	defer func(label string) {
		s.label, s.but = label, nil
		s.s.Label(label)
	}(s.label)
	s.but = but
	switch c.Format {
	case CopyText:
		return s.copyText(dst, data, c)
	case CopyCSV:
		return s.copyCSV(dst, data, c)
	case CopyBinary:
		return s.copyBinary(dst, data, c, first)
	}
	return nil, errCopy
}

// relabel says in which column the next value is.
func (s *Scrubber) relabel(c *Copy, column int) {
	if len(c.Columns) == 0 {
		return
	}
	if s.label = ""; column < len(c.Columns) {
		s.label = c.Columns[column]
	}
	s.s.Label(s.label)
}

// copyText: lines, in which backslashes escape.
func (s *Scrubber) copyText(dst, data []byte, c *Copy) ([]byte, error) {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, errCopy
	}
	from, column := 0, 0
	for i := 0; i < len(data); {
		at := i
		plain := s.plain[:0]
		for ; data[i] != '\n' && data[i] != c.Delimiter; i++ {
			b := data[i]
			if b == '\\' {
				i++
				if data[i] == '\n' {
					return nil, errCopy
				}
				b = unescaped(data[i])
			}
			plain = append(plain, b)
		}
		s.plain = plain
		s.relabel(c, column)
		alone := slices.Contains(s.but, column)
		if column++; data[i] == '\n' {
			column = 0
		}
		if !alone && string(data[at:i]) != c.Null {
			if out, changed := s.element(plain); changed {
				dst = append(dst, data[from:at]...)
				for _, b := range out {
					dst = appendEscaped(dst, b, c.Delimiter)
				}
				from = i
			}
		}
		i++
	}
	return append(dst, data[from:]...), nil
}

const (
	controls = "\b\f\n\r\t\v"
	letters  = "bfnrtv"
)

func unescaped(b byte) byte {
	if k := bytes.IndexByte([]byte(letters), b); k >= 0 {
		return controls[k]
	}
	return b
}

func appendEscaped(dst []byte, b, delimiter byte) []byte {
	if k := bytes.IndexByte([]byte(controls), b); k >= 0 {
		return append(dst, '\\', letters[k])
	}
	if b == '\\' || b == delimiter {
		dst = append(dst, '\\')
	}
	return append(dst, b)
}

// copyCSV: what is quoted may hold line ends.
func (s *Scrubber) copyCSV(dst, data []byte, c *Copy) ([]byte, error) {
	from, column := 0, 0
	for i := 0; i < len(data); {
		at := i
		plain, quoted := s.plain[:0], data[i] == c.Quote
		if quoted {
			for i++; ; i++ {
				if i == len(data) {
					return nil, errCopy
				}
				b := data[i]
				if b == c.Escape && i+1 < len(data) && (data[i+1] == c.Quote || data[i+1] == c.Escape) {
					i++
					b = data[i]
				} else if b == c.Quote {
					i++
					break
				}
				plain = append(plain, b)
			}
		}
		begin := i
		for i < len(data) && data[i] != c.Delimiter && data[i] != '\n' {
			i++
		}
		if i == len(data) || quoted && i > begin {
			return nil, errCopy // not at its end, or more behind a quote
		}
		if !quoted {
			plain = append(plain, data[at:i]...)
		}
		s.plain = plain
		s.relabel(c, column)
		alone := slices.Contains(s.but, column)
		if column++; data[i] == '\n' {
			column = 0
		}
		if !alone && (quoted || string(plain) != c.Null) {
			if out, changed := s.element(plain); changed {
				dst = append(append(dst, data[from:at]...), c.Quote)
				for _, b := range out {
					if b == c.Quote || b == c.Escape {
						dst = append(dst, c.Escape)
					}
					dst = append(dst, b)
				}
				dst = append(dst, c.Quote)
				from = i
			}
		}
		i++
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, errCopy
	}
	return append(dst, data[from:]...), nil
}

const signature = "PGCOPY\n\xff\r\n\x00"

// copyBinary: a header, rows of a number of fields with their lengths, and -1.
func (s *Scrubber) copyBinary(dst, data []byte, c *Copy, first bool) ([]byte, error) {
	i := 0
	if first {
		n, err := header(data)
		if err != nil {
			return nil, err
		}
		i = n
		dst = append(dst, data[:i]...)
	}
	for i < len(data) {
		if len(data)-i < 2 {
			return nil, errCopy
		}
		n := int(int16(binary.BigEndian.Uint16(data[i:])))
		dst = append(dst, data[i:i+2]...)
		if i += 2; n == -1 {
			if i != len(data) {
				return nil, errCopy
			}
			return dst, nil
		}
		if n < 0 {
			return nil, errCopy
		}
		for column := range n {
			s.relabel(c, column)
			if len(data)-i < 4 {
				return nil, errCopy
			}
			size := int(int32(binary.BigEndian.Uint32(data[i:])))
			i += 4
			switch {
			case size == -1:
				dst = append(dst, 0xff, 0xff, 0xff, 0xff)
				continue
			case size < 0 || size > len(data)-i:
				return nil, errCopy
			}
			v := data[i : i+size]
			if slices.Contains(s.but, column) {
				dst = append(dst, data[i-4:i+size]...)
			} else {
				dst, _ = s.sized(dst, v, looks(v))
			}
			i += size
		}
	}
	return dst, nil
}

// looks is the form that a binary value of an unknown type has by its looks.
func looks(v []byte) Form {
	if len(v) > 1 && v[0] == 1 && json.Valid(v[1:]) {
		return JSONB
	}
	if _, _, f, ok := arrayHead(v); ok && f != 0 && f != Opaque {
		return Arrays
	}
	if !utf8.Valid(v) {
		return Opaque
	}
	for _, b := range v {
		if b < ' ' && b != '\t' && b != '\n' && b != '\r' {
			return Opaque
		}
	}
	return Any
}
