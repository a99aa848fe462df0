package postgres

import (
	"errors"

	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// A COPY has no RowDescription: which of its columns is which only the analysis says,
// of a statement that was generated here. What is left to hold it against is how many
// columns there are and how they are written, of the whole and of every row, and what a
// header calls them.

// maskedCopy notes, at the beginning of a COPY's data, where masks go in its rows.
func (c *conn) maskedCopy(body []byte, o *outcome) error {
	r := &c.reply
	r.layout.begin()
	r.layout.copied.Columns = r.layout.copied.Columns[:0]
	outputs, k := r.cur.outputs, len(r.cur.subjects)
	if len(outputs) == 0 {
		return nil
	}
	m := cursor{b: body}
	format, n := m.byte(), m.int16()
	for range n {
		if m.int16() != int(format) {
			return c.disagree("COPY in another format")
		}
	}
	if !m.end() || n != r.cur.width {
		return c.disagree("COPY has %d columns, and not %d", n, r.cur.width)
	}
	for i := range outputs {
		r.layout.show(c.p.keys(), &outputs[i], o.form.Format == scrub.CopyBinary)
		r.layout.copied.Columns = append(r.layout.copied.Columns, outputs[i].Index-k)
	}
	r.layout.copied.Width, r.layout.copied.Value = n-k, r.layout.value
	r.layout.number = r.cur.number
	return nil
}

// errCopyUnknown: data of a COPY came before its beginning.
var errCopyUnknown = errors.New("COPY data came before it was known what is in it")

// maskCopy masks the rows of one message of COPY's data, of which the columns that were
// added are taken off. What it returns is good until the next.
func (c *conn) maskCopy(data []byte, o *outcome) ([]byte, error) {
	l := &c.reply.layout
	if l.number != c.reply.cur.number || l.number == 0 {
		return nil, c.disagree("%w", errCopyUnknown)
	}
	out, err := l.copied.Rows(l.data[:0], data, o.form, o.first)
	if err != nil {
		return nil, c.disagree("%w", err)
	}
	l.data = thrift(out)
	return out, nil
}

// value appends what the ith masked column shows.
func (l *layout) value(dst []byte, i int, value []byte) (out []byte, ok bool) {
	s := &l.columns[i]
	at := len(dst)
	if dst, ok = s.masker.Append(dst, value, s.binary); ok {
		dst = s.cut(dst, at)
	}
	return dst, ok
}
