package export

import (
	"strings"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
)

// item is one thing that a result holds: one of its parts is set.
type item struct {
	Columns []string  `json:"columns,omitempty"`
	Row     []*string `json:"row,omitempty"` // nil for NULL
	Copy    *string   `json:"copy,omitempty"`
	Tag     string    `json:"tag,omitempty"`
	Error   *said     `json:"error,omitempty"`
	Notice  *said     `json:"notice,omitempty"`
	Cut     string    `json:"cut,omitempty"` // why what follows is not there
}

// said is an error or a notice.
type said struct {
	Severity string `json:"severity"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	Detail   string `json:"detail,omitempty"`
	Hint     string `json:"hint,omitempty"`
	Where    string `json:"context,omitempty"`
}

// postgres takes results of PostgreSQL apart, one statement after another.
type postgres struct {
	number uint64
	in     render.Messages
	fields []pgproto3.FieldDescription
}

// items calls f with each thing that a chunk of a result completes. Statements
// that are executed again are not described again: their columns are those of
// before, as far as they fit.
func (p *postgres) items(c events.Chunk, f func(item) error) error {
	if c.Number != p.number {
		p.number, p.in = c.Number, render.Messages{}
	}
	return p.in.Split(c.Data, func(kind byte, body []byte, size int64) error {
		if body == nil {
			if size == 0 {
				return f(item{Cut: "this is not a message of PostgreSQL"})
			}
			return f(item{Cut: "a message is too large"})
		}
		it, ok := p.item(kind, body)
		if !ok {
			return nil
		}
		return f(it)
	})
}

func (p *postgres) item(kind byte, body []byte) (it item, ok bool) {
	broken := item{Cut: "a message is broken"}
	switch kind {
	case 'T':
		var m pgproto3.RowDescription
		if render.Decode(&m, body) != nil {
			return broken, true
		}
		p.fields = m.Fields
		it.Columns = make([]string, len(m.Fields))
		for i := range m.Fields {
			it.Columns[i] = string(m.Fields[i].Name)
		}
	case 'D':
		var m pgproto3.DataRow
		if render.Decode(&m, body) != nil {
			return broken, true
		}
		if len(p.fields) != len(m.Values) {
			p.fields = nil
		}
		it.Row = make([]*string, len(m.Values))
		for i, v := range m.Values {
			var oid uint32
			var format int16
			if p.fields != nil {
				oid, format = p.fields[i].DataTypeOID, p.fields[i].Format
			}
			if v != nil {
				s := render.Value(v, oid, format)
				it.Row[i] = &s
			}
		}
	case 'd':
		s := render.Value(body, 0, 0)
		it.Copy = &s
	case 'C':
		it.Tag = strings.TrimRight(string(body), "\x00")
	case 'E', 'N':
		var m pgproto3.ErrorResponse // a notice has the same form
		if render.Decode(&m, body) != nil {
			return broken, true
		}
		s := &said{m.Severity, m.Code, m.Message, m.Detail, m.Hint, m.Where}
		if kind == 'E' {
			it.Error = s
		} else {
			it.Notice = s
		}
	default:
		return it, false
	}
	return it, true
}
