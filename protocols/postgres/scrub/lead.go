package scrub

import (
	"bytes"
	"encoding/binary"
)

// Leads reports whether columns of letters and digits in front of a row can be told
// from what follows.
func (c *Copy) Leads() bool {
	plain := func(b byte) bool {
		return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b == '_'
	}
	return c.Format == CopyBinary || c.Format != 0 && !plain(c.Delimiter) && !plain(c.Quote) && !plain(c.Escape)
}

// Cut appends the rows of one message of COPY's data without their first k columns, of
// which f is told. These are of letters and digits only, are never NULL, and are not
// all of the row. first says that it is the first message. It fails on data of another
// form, and where f returns false.
func (c *Copy) Cut(dst, data []byte, k int, first bool, f func(i int, value []byte) bool) ([]byte, error) {
	if c.Format == CopyBinary {
		return cutBinary(dst, data, k, first, f)
	}
	for len(data) > 0 {
		for i := range k {
			end := bytes.IndexByte(data, c.Delimiter)
			if end < 0 {
				return nil, errCopy
			}
			value := data[:end]
			if n := len(value); c.Format == CopyCSV && n > 1 && value[0] == c.Quote && value[n-1] == c.Quote {
				value = value[1 : n-1]
			}
			if !f(i, value) {
				return nil, errCopy
			}
			data = data[end+1:]
		}
		n := c.line(data)
		if n < 0 {
			return nil, errCopy
		}
		if c.Format == CopyCSV && string(data[:n]) == "\\.\n" { // the server quotes it where it is all of a row
			dst = append(dst, c.Quote, '\\', '.', c.Quote, '\n')
		} else {
			dst = append(dst, data[:n]...)
		}
		data = data[n:]
	}
	return dst, nil
}

// line returns the size of the rest of a row, with its end; -1 where there is none.
func (c *Copy) line(data []byte) int {
	quoted := false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case c.Format == CopyText && b == '\\':
			i++
		case quoted && b == c.Escape && i+1 < len(data) && (data[i+1] == c.Quote || data[i+1] == c.Escape):
			i++
		case c.Format == CopyCSV && b == c.Quote:
			quoted = !quoted
		case b == '\n' && !quoted:
			return i + 1
		}
	}
	return -1
}

func cutBinary(dst, data []byte, k int, first bool, f func(i int, value []byte) bool) ([]byte, error) {
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
		if i += 2; n == -1 && i == len(data) {
			return append(dst, 0xff, 0xff), nil
		}
		if n < k {
			return nil, errCopy
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(n-k))
		for column := range n {
			size, end, err := binaryField(data, i)
			if err != nil {
				return nil, err
			}
			switch {
			case column >= k:
				dst = append(dst, data[i:end]...)
			case size < 0 || !f(column, data[i+4:end]):
				return nil, errCopy
			}
			i = end
		}
	}
	return dst, nil
}

// binaryField returns the size of the field of a binary row that begins at i, -1 for
// NULL, and where it ends.
func binaryField(data []byte, i int) (size, end int, _ error) {
	if len(data)-i < 4 {
		return 0, 0, errCopy
	}
	size = int(int32(binary.BigEndian.Uint32(data[i:])))
	if size < -1 || size > len(data)-i-4 {
		return 0, 0, errCopy
	}
	return size, i + 4 + max(size, 0), nil
}
