package postgres

import (
	"encoding/binary"
	"errors"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// Columns with a keyed mask come from the server as they are stored, where the
// analysis found that nothing else is done with them. They are masked here,
// before a byte of their row goes out.
//
// What the analysis says is not taken for what the server does: no row is looked
// at before a RowDescription has said of each column what was expected. A Query
// has one. Before each Execute the server is asked for the portal's, which also
// says in which format the columns come.

// askColumns has the server say what a portal shows, for the statement that is
// about to be executed.
func (c *conn) askColumns(portal []byte, st *statement, sc *policy.Scope, d policy.Decision) error {
	b, at := begin(c.msg[:0], 'D')
	b = append(append(append(b, 'P'), portal...), 0)
	c.msg = finish(b, at)
	s := step{
		kind: stepDescribePortal, number: c.number, record: d.Record(), sanitize: true, asked: true,
		guard: protects(sc), analyzer: c.analyzer, event: c.pol.Event,
	}
	s.shows(st.an)
	s.search = searches(sc, st.an)
	return c.push(&s, d, c.msg)
}

// shows notes what the result of an analysed statement is to have masked, and what
// is to be said of what was masked at the source.
func (s *step) shows(an *query.Analysis) {
	s.outputs, s.origins, s.width = an.Outputs, an.Origins, an.Width
	s.subjects, s.untold = an.Subjects, an.Untold
	if len(an.Subjects)+len(an.Outputs) > 0 {
		s.forms = an.Copies
	}
}

// changes reports whether rows of the result may have to be changed.
func (s *step) changes() bool {
	return len(s.outputs) > 0 || s.search != nil || len(s.subjects) > 0
}

// layout is where masks go in the rows of a statement's result.
type layout struct {
	number  uint64 // of the statement; 0: nothing is known
	width   int
	columns []shown // in order

	subjects   []query.Subject // columns in front of all others, which do not go out
	subjectKey *events.SubjectKey

	keys    *mask.Keys // that maskers were made with
	maskers map[field]*mask.Masker

	scrubbers scrubbers

	copied scrub.Replacer // of COPY's data
	data   []byte         // of a message of it, for what looks at it next
}

// shown is a column that is masked.
type shown struct {
	index  int
	binary bool
	masker *mask.Masker // nil: NULL
	length int          // that what is shown has at most, in characters; 0: any

	scrub *scrub.Scrubber // nil: it is masked
	form  scrub.Form
	of    events.Field
}

// field is what a Masker is kept by.
type field struct {
	of           policy.Relation
	column, kind string
	mask         policy.Mask
}

// maxMaskers bounds those that a session keeps.
const maxMaskers = 256

// begin forgets the result before.
func (l *layout) begin() { l.number, l.columns, l.subjects = 0, l.columns[:0], nil }

// show adds a column.
func (l *layout) show(keys *mask.Keys, o *query.Output, binary bool) {
	if l.keys != keys || len(l.maskers) >= maxMaskers {
		l.keys, l.maskers = keys, nil
	}
	f := field{o.Of, o.Column, o.Type, o.Mask}
	m, ok := l.maskers[f]
	if !ok {
		if l.maskers == nil {
			l.maskers = map[field]*mask.Masker{}
		}
		m = keys.Masker(f.of, f.column, f.mask, f.kind)
		l.maskers[f] = m
	}
	l.columns = append(l.columns, shown{index: o.Index, binary: binary, masker: m, length: o.Length})
}

// known says that the columns of a step's result are what was expected.
func (l *layout) known(s *step, width int) {
	if s.changes() && (s.asked || s.kind == stepQuery) {
		l.number, l.width = s.number, width
	}
}

// maxPrefix is how much of a row may come before the end of its last masked
// column, in bytes.
const maxPrefix = 16 << 20

// maskRow puts the masked form of the row at w.i, of n bytes, into what goes out.
// more reports that too little of it has arrived.
func (c *conn) maskRow(w *window, typ byte, n int) (more bool, err error) {
	r := &c.reply
	if typ != 'D' || r.layout.number != r.cur.number || r.cur.number == 0 {
		return false, c.disagree("a row came before it was known what is in it")
	}
	if len(r.layout.columns)+len(r.layout.subjects) == 0 {
		return false, c.stream(w, n)
	}
	msg := w.b[w.i:]
	prefix, drop, err := r.layout.prefix(msg, n)
	if err != nil {
		return false, c.disagree("%w", err)
	}
	if prefix > maxPrefix {
		return false, tooLarge()
	}
	if prefix > len(msg) {
		return true, nil
	}
	if err := r.row(); err != nil {
		return false, err
	}
	if held, err := c.withheld(w, n); held || err != nil {
		return false, err
	}
	w.collect()
	w.out = r.layout.append(w.out, msg[:prefix], n, drop, r.of(&r.cur))
	w.skip(prefix)
	r.drop, r.inside = drop, n-prefix-drop
	return false, nil
}

// Errors of rows that are not what was described.
var (
	errRowWidth = errors.New("a row has another number of columns than was said before")
	errRowSize  = errors.New("the fields of a row are larger than the row")
)

// prefix returns how much of the DataRow msg, which has n bytes in all, must be
// there for it to be masked: up to the end of its last masked column or, while
// too little has arrived to tell, some more than has. Where the value of the last
// is too large to be looked at it is no part of the prefix, and drop is its size.
func (l *layout) prefix(msg []byte, n int) (prefix, drop int, err error) {
	at := headLen + 2
	if n < at {
		return 0, 0, errRowSize
	}
	if len(msg) < at {
		return at, 0, nil
	}
	if int(binary.BigEndian.Uint16(msg[headLen:])) != l.width {
		return 0, 0, errRowWidth
	}
	last, drops := len(l.subjects)-1, false
	if n := len(l.columns); n > 0 {
		end := &l.columns[n-1]
		last, drops = end.index, end.scrub == nil
	}
	for i := 0; ; i++ {
		if n-at < 4 {
			return 0, 0, errRowSize
		}
		if len(msg)-at < 4 {
			return at + 4, 0, nil
		}
		size := int(int32(binary.BigEndian.Uint32(msg[at:])))
		at += 4
		switch {
		case size < -1, size > n-at:
			return 0, 0, errRowSize
		case i == last && size > mask.MaxValue && drops:
			return at, size, nil
		case size > 0:
			at += size
		}
		if i == last {
			return at, 0, nil
		}
	}
}

// append appends the beginning of a DataRow of n bytes with its columns masked;
// prefix and drop are what prefix said, o is told what was found.
func (l *layout) append(dst, prefix []byte, n, drop int, o *outcome) []byte {
	begin, from, at := len(dst), 0, headLen+2
	columns := l.columns
	if len(l.subjects) > 0 {
		dst = append(dst, prefix[:at]...)
		binary.BigEndian.PutUint16(dst[begin+headLen:], uint16(l.width-len(l.subjects)))
		from = at
	}
	for i := 0; at < len(prefix); i++ {
		size := int(int32(binary.BigEndian.Uint32(prefix[at:])))
		next := at + 4
		if size > 0 && next < len(prefix) { // else it is left out
			next += size
		}
		switch {
		case i < len(l.subjects):
			if size >= 0 {
				o.subjects.saw(l.subjectKey, l.subjects[i].Name, prefix[at+4:next])
			}
			from = next
		case columns[0].index == i:
			if size >= 0 {
				dst = append(dst, prefix[from:at]...)
				dst = columns[0].append(dst, prefix[at+4:next], size, o)
				from = next
			}
			columns = columns[1:]
		}
		at = next
	}
	dst = append(dst, prefix[from:]...)
	rest := n - len(prefix) - drop
	binary.BigEndian.PutUint32(dst[begin+1:], uint32(len(dst)-begin-1+rest))
	return dst
}

// append appends a column's size and masked value. size is that of the value,
// which is not there where it is too large.
func (s *shown) append(dst, value []byte, size int, o *outcome) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	out, ok := dst, false
	switch {
	case size != len(value):
	case s.scrub != nil:
		out, ok = s.scrub.Append(dst, value, s.form)
		o.found(s.scrub, s.index+1, s.of)
	default:
		out, ok = s.masker.Append(dst, value, s.binary)
		out = s.cut(out, at+4)
	}
	if !ok {
		binary.BigEndian.PutUint32(dst[at:], 0xffffffff) // NULL
		return dst
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out
}

// cut takes off what of the text at out[from:] is longer than its column.
func (s *shown) cut(out []byte, from int) []byte {
	if s.length == 0 || len(out)-from <= s.length {
		return out
	}
	n := 0
	for i := range string(out[from:]) {
		if n == s.length {
			return out[:from+i]
		}
		n++
	}
	return out
}
