package postgres

import (
	"encoding/binary"
	"errors"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// What detectors find in what goes out is replaced here, row by row, before a
// byte of the row does. As with keyed masks no row is looked at before a
// RowDescription has said what is in it, but for COPY, whose own form the analysis
// tells.

// search is what is looked for in the result of a statement.
type search struct {
	rules  []*policy.Detection
	copies []scrub.Copy // of the statement, in order
}

// searches returns what is looked for in the result of an analysed statement, nil
// for nothing.
func searches(sc *policy.Scope, an *query.Analysis) *search {
	var s *search
	for i := range sc.Detects {
		d := sc.Detects[i].Within(an.Reached())
		if d == nil {
			continue
		}
		if s == nil {
			s = &search{copies: an.Copies}
		}
		s.rules = append(s.rules, d)
	}
	return s
}

// kinds returns what is looked for in a column, or, with the zero Field, in what
// is no column of a relation.
func (s *search) kinds(of events.Field) (k detect.Set) {
	if s == nil {
		return 0
	}
	for _, d := range s.rules {
		if d.Covers(of) {
			k |= detect.Set(d.Kinds)
		}
	}
	return k
}

// watches returns what is looked for in anything that is no row.
func watches(sc *policy.Scope) (k uint64) {
	for i := range sc.Detects {
		k |= sc.Detects[i].Kinds
	}
	return k
}

// searched is what a Scrubber is kept by.
type searched struct {
	kinds detect.Set
	label string
}

// scrubbers are those that a session keeps.
type scrubbers map[searched]*scrub.Scrubber

func (m *scrubbers) get(k detect.Set, label string) *scrub.Scrubber {
	key := searched{k, label}
	s := (*m)[key]
	if s == nil {
		if *m == nil || len(*m) >= maxMaskers {
			*m = scrubbers{}
		}
		s = scrub.New(k, label)
		(*m)[key] = s
	}
	return s
}

// look adds a column in which something is looked for.
func (l *layout) look(index int, binary bool, oid uint32, name string, of events.Field, s *search) {
	form := scrub.FormOf(oid, binary)
	k := s.kinds(of)
	if form == 0 || k == 0 {
		return
	}
	if of.Column != "" {
		name = of.Column
	}
	l.columns = append(l.columns, shown{index: index, form: form, of: of, scrub: l.scrubbers.get(k, name)})
}

// maxDetected bounds the columns and kinds that an outcome tells apart.
const maxDetected = 64

// found notes what was replaced in a column, from 1; 0 is not told apart.
func (o *outcome) found(s *scrub.Scrubber, column int, of events.Field) {
	s.Take(func(k detect.Kind, n int64) {
		o.detect(events.Detection{Column: column, Field: of, Kind: k.String(), Count: n})
	})
}

func (o *outcome) detect(d events.Detection) {
	for i := range o.detected {
		if have := &o.detected[i]; have.Column == d.Column && have.Kind == d.Kind {
			have.Count += d.Count
			return
		}
	}
	if d.Column > 0 && len(o.detected) >= maxDetected {
		d.Column, d.Field = 0, events.Field{}
		o.detect(d)
		return
	}
	o.detected = append(o.detected, d)
}

// copyOut notes how the COPY that begins writes its rows.
func (c *conn) copyOut(body []byte) error {
	r := &c.reply
	s, forms := r.cur.search, r.cur.forms
	if s != nil {
		forms = s.copies
	} else if len(r.cur.subjects)+len(r.cur.outputs) == 0 {
		return nil
	}
	o := r.of(&r.cur)
	if o.copied >= len(forms) {
		return c.disagree("a COPY that was not analysed")
	}
	o.form, o.first = &forms[o.copied], true
	o.copied++
	if len(body) == 0 || (body[0] == 1) != (o.form.Format == scrub.CopyBinary) {
		return c.disagree("COPY in another format")
	}
	return c.maskedCopy(body, o)
}

// scrubCopy scrubs the rows of the CopyData message at w.i, of n bytes. more
// reports that too little of it has arrived.
func (c *conn) scrubCopy(w *window, n int) (more bool, err error) {
	r := &c.reply
	o := r.of(&r.cur)
	if o.form == nil {
		return false, c.disagree("COPY data without its beginning")
	}
	if n > maxPrefix {
		return false, tooLarge()
	}
	msg := w.b[w.i:]
	if len(msg) < n {
		return true, nil
	}
	if err := r.row(); err != nil {
		return false, err
	}
	if held, err := c.withheld(w, n); held || err != nil {
		return false, err
	}
	w.collect()
	data := msg[headLen:n]
	if len(r.cur.subjects) > 0 {
		if data, err = c.bareCopy(data, o); err != nil {
			return false, err
		}
	}
	if len(r.cur.outputs) > 0 {
		if data, err = c.maskCopy(data, o); err != nil {
			return false, err
		}
	}
	at := len(w.out)
	out := append(w.out, 'd', 0, 0, 0, 0)
	if r.cur.search == nil {
		out = append(out, data...)
	} else {
		s := r.layout.scrubbers.get(r.cur.search.kinds(events.Field{}), "")
		if out, err = s.Rows(out, data, o.form, o.first, r.layout.copied.Columns...); err != nil {
			return false, c.disagree("%w", err)
		}
		o.found(s, 0, events.Field{})
	}
	w.out = out
	o.first = false
	binary.BigEndian.PutUint32(w.out[at+1:], uint32(len(w.out)-at-1))
	w.skip(n)
	return false, nil
}

// tooLarge ends a session whose row can't be looked at as a whole.
func tooLarge() error {
	return &ending{&refusal{
		code: codeBusy, message: "sallyport: a row is too large to be masked: this connection ends",
		hint: "Select the columns that are masked, or that detectors look at, before large ones, or less of them.",
	}, errors.New("postgres: the columns of a row up to the last one that is masked or looked at are larger than 16 MiB")}
}

// watched returns what scrubs what is no row; nil: nothing is looked for.
func (c *conn) watched() *scrub.Scrubber {
	k := detect.Set(c.watch.Load())
	if c.reply.have {
		k |= c.reply.cur.search.kinds(events.Field{})
	}
	if k == 0 {
		return nil
	}
	return c.reply.layout.scrubbers.get(k, "")
}

// told counts what was replaced in a message.
func (c *conn) told(s *scrub.Scrubber) (changed bool) {
	s.Take(func(k detect.Kind, n int64) {
		changed = true
		if r := &c.reply; r.have && r.cur.number > 0 {
			r.of(&r.cur).detect(events.Detection{Kind: k.String(), Count: n})
		}
	})
	return changed
}

// scrub scrubs all words of a report.
func (c *conn) scrub(e *report, s *scrub.Scrubber) (changed bool) {
	for _, field := range []*string{&e.m.Message, &e.m.Detail, &e.m.Hint, &e.m.InternalQuery, &e.m.Where, &e.m.DataTypeName} {
		out, _ := s.Append(nil, bytesOf(*field), scrub.Text)
		*field = string(out)
	}
	for k, v := range e.m.UnknownFields {
		out, _ := s.Append(nil, bytesOf(v), scrub.Text)
		e.m.UnknownFields[k] = string(out)
	}
	return c.told(s)
}

// scrubLast scrubs the last string of a message whose other fields are head.
func (c *conn) scrubLast(msg []byte, head int) (action, error) {
	s := c.watched()
	if s == nil {
		return passed, nil
	}
	if head >= len(msg) || msg[len(msg)-1] != 0 {
		return 0, garbled(malformed(msg[0]))
	}
	out, _ := s.Append(append(c.reply.buf[:0], msg[:head]...), msg[head:len(msg)-1], scrub.Text)
	c.reply.buf = append(out, 0)
	if !c.told(s) {
		return passed, nil
	}
	binary.BigEndian.PutUint32(c.reply.buf[1:], uint32(len(c.reply.buf)-1))
	return replaced, nil
}
