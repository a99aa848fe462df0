package render

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5/pgtype"

	"sallyport.dev/sallyport/events"
)

// postgres shows results as psql would. Chunks hold backend messages as the
// client got them (PostgreSQL 15, section 55.7); a message may span chunks,
// and the last one of a statement may be cut at the transcript's limit.
type postgres struct {
	number uint64 // the statement that is being shown
	in     Messages

	fields []pgproto3.FieldDescription
	fresh  bool // fields were described for this statement
	widths []int
	header bool // the table's head is out
	rows   [][]string
}

func (p *postgres) Render(w io.Writer, c events.Chunk) error {
	if c.Number != p.number {
		if err := p.next(w, c.Number); err != nil {
			return err
		}
	}
	var err error
	switch c.Kind {
	case events.ChunkStatement:
		_, err = fmt.Fprintf(w, "[%d] => %s\n", c.Number, Text(string(c.Data)))
	case events.ChunkBinds:
		_, err = fmt.Fprintf(w, "     binds: %s\n", binds(c.Data))
	case events.ChunkInput:
		_, err = fmt.Fprintf(w, "     input: %s\n", strings.TrimRight(Text(string(c.Data)), "\n"))
	case events.ChunkResult:
		err = p.result(w, c.Data)
	default:
		_, err = fmt.Fprintf(w, "     (%d bytes of an unknown kind)\n", len(c.Data))
	}
	return err
}

func (p *postgres) next(w io.Writer, number uint64) error {
	cut := p.in.Cut()
	p.number, p.in, p.fresh, p.header, p.widths = number, Messages{}, false, false, nil
	if cut {
		_, err := fmt.Fprintln(w, "     (the recording of this result ends here)")
		return err
	}
	return nil
}

func (p *postgres) result(w io.Writer, b []byte) error {
	err := p.in.Split(b, func(kind byte, body []byte, size int64) error {
		switch {
		case size == 0:
			return p.say(w, "(not a message of PostgreSQL: the rest of this result is not shown)")
		case body == nil:
			return p.say(w, "(a message %q of %d bytes)", []byte{kind}, size)
		}
		return p.message(w, kind, body)
	})
	return errors.Join(err, p.flush(w))
}

// say writes a line after the rows that came before it.
func (p *postgres) say(w io.Writer, format string, args ...any) error {
	if err := p.flush(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "     "+format+"\n", args...)
	return err
}

func (p *postgres) message(w io.Writer, kind byte, body []byte) error {
	switch kind {
	case 'T':
		var m pgproto3.RowDescription
		if err := Decode(&m, body); err != nil {
			return p.say(w, "(a broken RowDescription)")
		}
		if err := p.flush(w); err != nil {
			return err
		}
		// The names borrow from the message.
		p.fields, p.fresh, p.header, p.widths = m.Fields, true, false, nil
		for i := range p.fields {
			p.fields[i].Name = []byte(string(p.fields[i].Name))
		}
	case 'D':
		var m pgproto3.DataRow
		if err := Decode(&m, body); err != nil {
			return p.say(w, "(a broken DataRow)")
		}
		p.rows = append(p.rows, p.row(m.Values))
		if len(p.rows) >= 1000 {
			return p.flush(w)
		}
	case 'C':
		tag := strings.TrimRight(string(body), "\x00")
		err := p.say(w, "%s", Line(tag))
		p.header, p.widths, p.fresh = false, nil, false
		return err
	case 'E', 'N':
		var m pgproto3.ErrorResponse // a notice has the same form
		if err := Decode(&m, body); err != nil {
			return p.say(w, "(a broken ErrorResponse)")
		}
		if err := p.say(w, "%s: %s: %s", Line(m.Severity), Line(m.Code), Line(m.Message)); err != nil {
			return err
		}
		for _, f := range [...][2]string{{"DETAIL", m.Detail}, {"HINT", m.Hint}, {"CONTEXT", m.Where}} {
			if f[1] != "" {
				if err := p.say(w, "%s: %s", f[0], Line(f[1])); err != nil {
					return err
				}
			}
		}
	case 'd':
		if err := p.flush(w); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, Line(strings.TrimSuffix(string(body), "\n")))
		return err
	case 'A':
		var m pgproto3.NotificationResponse
		if err := Decode(&m, body); err != nil {
			return p.say(w, "(a broken NotificationResponse)")
		}
		return p.say(w, "notification %s: %s", Line(m.Channel), Line(m.Payload))
	case 'I':
		return p.say(w, "(empty statement)")
	case 's':
		return p.say(w, "(the portal is suspended)")
	}
	return nil // the rest of the protocol says nothing to a reader
}

// row makes text of a row's values.
func (p *postgres) row(values [][]byte) []string {
	if len(values) != len(p.fields) { // described in another statement, or not at all
		p.fields, p.fresh = nil, false
	}
	out := make([]string, len(values))
	for i, v := range values {
		switch {
		case v == nil:
			out[i] = "NULL"
		case p.fields == nil:
			out[i] = Line(Value(v, 0, 0))
		default:
			out[i] = Line(Value(v, p.fields[i].DataTypeOID, p.fields[i].Format))
		}
	}
	return out
}

var types = pgtype.NewMap()

// Value makes text of a value of a type. Format 0 may only mean that the format
// was not known when the statement was described; bytes that are no text are then
// taken for the type's binary form. What the text could do to a terminal is left
// to Line.
func Value(v []byte, oid uint32, format int16) string {
	if format == 0 && utf8.Valid(v) && !strings.ContainsRune(string(v), 0) {
		return string(v)
	}
	if t, ok := types.TypeForOID(oid); ok {
		if x, err := t.Codec.DecodeDatabaseSQLValue(types, oid, pgtype.BinaryFormatCode, v); err == nil {
			switch x := x.(type) {
			case []byte:
				return fmt.Sprintf(`\x%x`, x)
			default:
				return fmt.Sprint(x)
			}
		}
	}
	if utf8.Valid(v) && format != 0 && oid == 0 {
		return string(v)
	}
	return fmt.Sprintf(`\x%x`, v)
}

// flush writes the rows that are held, aligned.
func (p *postgres) flush(w io.Writer) error {
	if len(p.rows) == 0 {
		return nil
	}
	var names []string
	for i := range p.rows[0] {
		if p.fields != nil {
			names = append(names, Line(string(p.fields[i].Name)))
		} else {
			names = append(names, fmt.Sprintf("column%d", i+1))
		}
	}
	if len(p.widths) != len(names) {
		p.widths, p.header = make([]int, len(names)), false
	}
	lines := p.rows
	if !p.header {
		lines = append([][]string{names}, lines...)
	}
	for _, l := range lines {
		for i := range min(len(l), len(p.widths)) {
			p.widths[i] = max(p.widths[i], min(utf8.RuneCountInString(l[i]), 60))
		}
	}
	var b strings.Builder
	for i, l := range lines {
		p.line(&b, l)
		if i == 0 && !p.header {
			for k, n := range p.widths {
				if k > 0 {
					b.WriteByte('+')
				}
				b.WriteString(strings.Repeat("-", n+2))
			}
			b.WriteByte('\n')
		}
	}
	p.header, p.rows = true, p.rows[:0]
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *postgres) line(b *strings.Builder, cells []string) {
	for i, c := range cells {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteByte(' ')
		b.WriteString(c)
		if i < len(cells)-1 && i < len(p.widths) {
			b.WriteString(strings.Repeat(" ", max(p.widths[i]-utf8.RuneCountInString(c), 0)+1))
		}
	}
	b.WriteByte('\n')
}

// binds shows bound parameters: the body of a Bind message, or what it is.
func binds(b []byte) string {
	values, ok := Parameters(b)
	if !ok {
		return Line(string(b))
	}
	var out []string
	for i, v := range values {
		s := "NULL"
		if v != nil {
			s = Line(*v)
		}
		out = append(out, fmt.Sprintf("$%d=%s", i+1, s))
	}
	return strings.Join(out, " ")
}

// Parameters returns what a Bind message binds, nil for NULL; false where b is
// neither the message nor its body.
func Parameters(b []byte) ([]*string, bool) {
	if len(b) > 5 && b[0] == 'B' && int64(binary.BigEndian.Uint32(b[1:]))+1 == int64(len(b)) {
		b = b[5:]
	}
	var m pgproto3.Bind
	if err := Decode(&m, b); err != nil {
		return nil, false
	}
	out := make([]*string, len(m.Parameters))
	for i, v := range m.Parameters {
		if v != nil {
			s := Value(v, 0, 0)
			out[i] = &s
		}
	}
	return out, true
}
