package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// The server is asked in front of a result's columns for whose its rows are. They are
// taken off here, and go on the record as keyed hashes, before a byte of their rows
// goes out. The client is never told of them.

// subjectKey returns what subjects are named by, nil for nothing.
func (p *Protocol) subjectKey() *events.SubjectKey {
	if p.o.Subjects == nil {
		return nil
	}
	return p.o.Subjects()
}

// textOID is the type of the columns that are added (pg_type.dat).
const textOID = 25

// addedTo reports whether a column of a result is the one that was added.
func addedTo(s *query.Subject, name []byte, oid uint32) bool {
	return oid == textOID && string(name) == s.As
}

// bare takes the columns that were added off a RowDescription, which checkRow has read.
// It is in c.reply.buf if act says so, else msg.
func (c *conn) bare(msg []byte, act action) action {
	r := &c.reply
	k := len(r.cur.subjects)
	if act == passed {
		r.buf = append(r.buf[:0], msg...)
	}
	b := r.buf
	m := cursor{b: b[headLen:]}
	n := m.int16()
	for range k {
		m.str()
		m.take(4 + 2 + 4 + 2 + 4 + 2)
	}
	rest := append(b[:headLen+2], m.b...)
	binary.BigEndian.PutUint16(rest[headLen:], uint16(n-k))
	binary.BigEndian.PutUint32(rest[1:], uint32(len(rest)-1))
	r.buf = rest
	return replaced
}

// bareCopyOut takes the columns that were added off a CopyOutResponse.
func (c *conn) bareCopyOut(msg []byte) (action, error) {
	r := &c.reply
	k := len(r.cur.subjects)
	m := cursor{b: msg[headLen:]}
	format, n := m.byte(), m.int16()
	formats := m.take(2 * n)
	if !m.end() || n <= k {
		return 0, c.disagree("COPY has %d columns, and does not say whose its rows are", n)
	}
	if r.layout.subjectKey = c.p.subjectKey(); r.layout.subjectKey == nil {
		return 0, c.disagree("there is no key any more to name whose its rows are")
	}
	b, at := begin(r.buf[:0], 'H')
	b = binary.BigEndian.AppendUint16(append(b, format), uint16(n-k))
	r.buf = finish(append(b, formats[2*k:]...), at)
	return replaced, nil
}

// bareCopy takes the columns that were added off the rows of one message of COPY's
// data. What it returns is good until the next.
func (c *conn) bareCopy(data []byte, o *outcome) ([]byte, error) {
	r := &c.reply
	out, err := o.form.Cut(o.cut[:0], data, len(r.cur.subjects), o.first, func(i int, value []byte) bool {
		s := &r.cur.subjects[i]
		if o.first && string(value) == s.As { // the header
			return true
		}
		if len(value) == 0 || value[0] != 'k' {
			return false
		}
		if len(value) == 1 { // NULL
			return true
		}
		key, err := hex.AppendDecode(nil, value[1:])
		if err == nil {
			o.subjects.saw(r.layout.subjectKey, s.Name, key)
		}
		return err == nil
	})
	if err != nil {
		return nil, c.disagree("%w", err)
	}
	o.cut = thrift(out)
	return out, nil
}

// maxRemembered bounds the subjects of a statement that are not named twice. Beyond it
// they are forgotten, and may be.
const maxRemembered = 16 << 10

// subjects are those of whom a statement's rows are.
type subjects struct {
	known map[events.Subject]bool
	fresh []events.Subject // not on the record yet
	named int64
}

func (s *subjects) reset() {
	clear(s.known)
	s.fresh, s.named = s.fresh[:0], 0
}

// saw notes whose a row is.
func (s *subjects) saw(k *events.SubjectKey, name string, value []byte) {
	of := k.Subject(name, value)
	if s.known[of] {
		return
	}
	if s.known == nil || len(s.known) >= maxRemembered {
		s.known = map[events.Subject]bool{}
	}
	s.known[of] = true
	s.fresh = append(s.fresh, of)
	s.named++
}

// tellSubjects puts on the record whose the rows are that are about to go out, but for
// the last few if there are no more than keep.
func (c *conn) tellSubjects(s *step, keep int) error {
	o := &c.reply.outcome
	if len(o.subjects.fresh) <= keep || o.number != s.number {
		return nil
	}
	for fresh := o.subjects.fresh; len(fresh) > 0; {
		n := min(len(fresh), events.MaxSubjects)
		err := c.s.Before(&events.Event{Kind: events.Subjects, Session: s.event, Time: time.Now(), Number: s.number, Subjects: fresh[:n]})
		if err != nil {
			return unrecorded(err)
		}
		fresh = fresh[n:]
	}
	o.subjects.fresh = o.subjects.fresh[:0]
	return nil
}

// withFormats returns the body of a Bind whose result has columns added in front:
// where it gives a format for each column, text for these. formats is its end, from
// the number of formats on.
func withFormats(body, formats []byte, added int) []byte {
	n := int(binary.BigEndian.Uint16(formats))
	if added == 0 || n < 2 || n+added > 1<<16-1 {
		return body
	}
	out := make([]byte, 0, len(body)+2*added)
	out = append(out, body[:len(body)-len(formats)]...)
	out = binary.BigEndian.AppendUint16(out, uint16(n+added))
	out = append(out, make([]byte, 2*added)...)
	return append(out, formats[2:]...)
}
